"""Embed stored samples, unchanged or varied, in batches.

Shapes: M samples, D embedding.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from model_ext.imagebind.model import ImageBind
from model_ext.train.encoders.batches import generator, plain, varied

BATCH = 64


@torch.no_grad()
def embed(model: ImageBind, modality: str, data: Tensor) -> Tensor:
    """Embed stored samples without variation. Returns vectors (M, D) of length 1."""
    parts = torch.split(data, BATCH)
    return torch.cat([model.unit(modality, plain(modality, part, model.config)) for part in parts])


@torch.no_grad()
def embed_views(model: ImageBind, pictures: Tensor, views: Iterable[int], seed: int) -> Tensor:
    """Embed each picture once for each number in `views`: unchanged for 0, and else in a random
    variation, which depends only on the seed and the number.

    Returns vectors (M, views, D) of length 1.
    """
    vectors = []
    for number in views:
        g = generator(seed, number)
        parts = [
            varied("vision", part, model.config, g)
            if number
            else plain("vision", part, model.config)
            for part in torch.split(pictures, BATCH)
        ]
        vectors.append(torch.cat([model.unit("vision", part) for part in parts]))
    return torch.stack(vectors, dim=1)
