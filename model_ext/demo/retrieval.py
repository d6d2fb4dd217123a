"""Exact and slow retrieval from the cache in plain torch, for the demonstration's figures.

Serving uses `cache_index`, which this package does not import; a test compares the two.

Shapes: B queries, M cached images, K neighbours, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TOP_K = 10
TEMPERATURE = 20.0


def enhanced(queries: Tensor, keys: Tensor, weight: float, values: Tensor | None = None) -> Tensor:
    """Mix queries (B, D) with the nearest unit keys (M, D): (B, D).

    If `values` (M, D) is set, mixes with the neighbors' rows of `values` instead of their keys.
    """
    scores, rows = (queries @ keys.T).topk(min(TOP_K, len(keys)), dim=1)  # (B, K)
    neighbors = (keys if values is None else values)[rows]
    mean = torch.einsum("bk,bkd->bd", (TEMPERATURE * scores).softmax(1), neighbors)
    return F.normalize((1 - weight) * queries + weight * F.normalize(mean, dim=-1), dim=-1)


def shuffled(keys: Tensor, seed: int) -> Tensor:
    """Permute the keys. Used as `values`, they are a control: each neighbor gives another image's
    value.

    If the control improved answers as much as the cache, the cache's content would not be the
    cause.
    """
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))
    return keys[order]
