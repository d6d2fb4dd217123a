"""Retrieve from a cache exactly and slowly, in plain torch, to compute the demonstration's figures.

The server uses `cache_index` instead. A test compares the two.

Shapes: B queries, M cached images, K neighbours, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TOP_K = 10
TEMPERATURE = 20.0


def enhanced(queries: Tensor, keys: Tensor, weight: float, values: Tensor | None = None) -> Tensor:
    """Find the nearest keys (M, D) of each query (B, D), and mix the query with them.

    Returns (B, D). If `values` (M, D) is set, mixes the query with the neighbors' rows of `values`
    instead of their keys.
    """
    scores, rows = (queries @ keys.T).topk(min(TOP_K, len(keys)), dim=1)  # shape (B, K)
    neighbors = (keys if values is None else values)[rows]
    mean = torch.einsum("bk,bkd->bd", (TEMPERATURE * scores).softmax(1), neighbors)
    return F.normalize((1 - weight) * queries + weight * F.normalize(mean, dim=-1), dim=-1)


def shuffled(keys: Tensor, seed: int) -> Tensor:
    """Return the keys in another order, for use as `values` in a control run: each neighbor then
    has the value of another image.

    If the control improves answers as much as the cache, the cache's content is not the cause.
    """
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))
    return keys[order]
