"""Embeddings of the concepts' English names, for training rows about words without pictures.

A name is written in several ways, encoded by the text encoder, and moved towards the cache as the
server moves a request's embedding. The cache has only pictures of training styles.

Shapes: A views, M cached pictures, D embedding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_ext.demo.retrieval import enhanced
from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import a
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess

WORDINGS = ("{0}", "{1}", "the {0}", "a picture of {1}", "an icon of {1}", "This is {1}.")
# A request's embedding has the weight 0.5 by default, and 0.75 in the transfer table.
WEIGHTS = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0)


def write_words(encoders: ImageBind, cached: Tensor, data: Path) -> dict[str, list[str]]:
    """Write a file (A, D) for each concept and wording, whose views are the weights of the cache
    (M, D). Returns the paths of each concept's files, relative to `data`.
    """
    paths: dict[str, list[str]] = {}
    for concept in CONCEPTS:
        texts = [wording.format(concept, a(concept)) for wording in WORDINGS]
        vectors = encoded(encoders, texts)
        views = torch.stack([enhanced(vectors, cached, weight) for weight in WEIGHTS], 1)
        paths[concept] = [f"words/{concept}-{number}.npy" for number in range(len(texts))]
        for path, each in zip(paths[concept], views, strict=True):
            (data / path).parent.mkdir(exist_ok=True)
            np.save(data / path, each.numpy())
    return paths


@torch.no_grad()
def encoded(encoders: ImageBind, texts: Sequence[str]) -> Tensor:
    """Return the embeddings (B, D) of B texts."""
    sizes = PreprocessConfig.of(encoders.config)
    return encoders.unit(
        "text", torch.stack([preprocess("text", text.encode(), sizes) for text in texts])
    )
