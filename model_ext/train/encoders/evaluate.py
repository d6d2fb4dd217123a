"""Classify held-out samples by the nearest mean picture embedding (prototype) of the training list.

Shapes: M samples, K keys, D embedding.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from model_ext.imagebind.model import ImageBind
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.samples import Samples


def accuracies(
    model: ImageBind, training: Mapping[str, Samples], held_out: Mapping[str, Samples]
) -> dict[str, float]:
    """Return modality -> share of held-out samples whose nearest prototype has the same key."""
    training_mode = model.training
    model.eval()
    keys = sorted({key for samples in held_out.values() for key in samples.keys})
    rows = training["vision"].rows()
    keys = [key for key in keys if key in rows]
    prototypes = torch.stack(
        [embed(model, "vision", training["vision"].data[rows[key]]).mean(0) for key in keys]
    )
    prototypes = F.normalize(prototypes, dim=-1)
    shares = {}
    for modality, samples in held_out.items():
        vectors = embed(model, modality, samples.data)
        nearest = (vectors @ prototypes.T).argmax(1).tolist()
        hits = [keys[near] == key for near, key in zip(nearest, samples.keys, strict=True)]
        shares[modality] = sum(hits) / len(hits)
    model.train(training_mode)
    return shares
