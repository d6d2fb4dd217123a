"""The contrastive loss, which moves each sample's embedding towards its key's picture.

Plain torch. Shapes: B keys in the batch, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(anchors: Tensor, others: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the symmetric InfoNCE loss of anchors (B, D) with length 1 and scaled embeddings (B,
    D). Rows with the same index have the same key.
    """
    logits = anchors @ others.T
    targets = torch.arange(len(anchors), device=anchors.device)
    return (
        F.cross_entropy(logits, targets, label_smoothing=smoothing)
        + F.cross_entropy(logits.T, targets, label_smoothing=smoothing)
    ) / 2
