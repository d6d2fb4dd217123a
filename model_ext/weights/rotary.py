"""Rotary embedding pairs: released weights pair neighbours, ours pair the two halves of a head."""

import torch


def rotate_half_rows(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorder the output rows of each head: 0, 2, 4, ... first, then 1, 3, 5, ...

    For the query and key weights (H*d, C), the query bias (H*d,), and the second factor of
    their LoRA (H*d, r).
    """
    pairs = rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
