"""The cache model in a few lines of torch, exact and slow, for figures about the demonstration.

Serving has its own (`cache_index`), which this room does not know; a test compares the two.

Shapes: B queries, M cached images, K neighbours, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TOP_K = 10
TEMPERATURE = 20.0


def enhanced(queries: Tensor, keys: Tensor, weight: float, values: Tensor | None = None) -> Tensor:
    """(B, D), unit keys (M, D) -> (B, D): blended with the images nearest to each query.

    `values` (M, D), if given, are recalled in place of the keys that were found.
    """
    scores, rows = (queries @ keys.T).topk(min(TOP_K, len(keys)), dim=1)  # (B, K)
    recalled = (keys if values is None else values)[rows]
    mean = torch.einsum("bk,bkd->bd", (TEMPERATURE * scores).softmax(1), recalled)
    return F.normalize((1 - weight) * queries + weight * F.normalize(mean, dim=-1), dim=-1)


def shuffled(keys: Tensor, seed: int) -> Tensor:
    """Values for a control: what is found recalls some other image.

    If that helped as much, the cache would not help by what it knows.
    """
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))
    return keys[order]
