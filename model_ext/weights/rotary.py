"""Reorder the rows of query and key matrices for rotary embeddings.

Rotary embeddings rotate pairs of a head's dimensions. In released weights, neighbouring rows form a
pair. In "rotate-half order", which the model's folder uses, a pair consists of a row of the head's
first half and a row of its second half.
"""

import torch


def rotate_half_rows(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorder the output rows of each head: 0, 2, 4, ... first, then 1, 3, 5, ...

    `rows` are query or key weights (H*d, C), the query bias (H*d,), or the second LoRA factor of
    either (H*d, r).
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
