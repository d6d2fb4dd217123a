"""The contrastive loss: each sample should be nearest to the picture of its own key.

Plain torch. Shapes: B keys in the batch, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(anchors: Tensor, others: Tensor, smoothing: float = 0.0) -> Tensor:
    """Symmetric InfoNCE of unit anchors (B, D) and scaled others (B, D); row i belongs to row i."""
    logits = anchors @ others.T
    own = torch.arange(len(anchors), device=anchors.device)
    return (
        F.cross_entropy(logits, own, label_smoothing=smoothing)
        + F.cross_entropy(logits.T, own, label_smoothing=smoothing)
    ) / 2
