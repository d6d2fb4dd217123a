"""The losses of the proposal network.

A cell whose center is near the middle of a box is positive. The target of its logit is the overlap
of its predicted box with the true box (quality focal loss, Li et al. 2020). The loss of its
predicted box is the generalised overlap (Rezatofighi et al. 2019).
Shapes: B pictures, G * G cells, N boxes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model_ext.grounding.bind.proposals import STRIDE, centers
from model_ext.grounding.boxes import areas

# A cell is positive if its distance from the box's middle is less than this share of the box's
# side.
SHARE = 0.2
BOX_WEIGHT = 2.0


def assign(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the positive cells (P,) and for each of them the index (P,) of its true box.

    If a cell is near the middles of several boxes, its true box is the smallest of them.
    """
    if not len(boxes):
        empty = torch.zeros(0, dtype=torch.long, device=boxes.device)
        return empty, empty
    cells = centers(side, boxes.device)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = ((boxes[:, 2:] - boxes[:, :2]) * SHARE).clamp_min(STRIDE / 2 + 0.01)
    near = ((cells[:, None] - middle[None]).abs() <= reach[None]).all(-1)  # shape (G * G, N)
    size = torch.where(near, areas(boxes)[None], torch.inf)
    smallest, index = size.min(1)
    positive = smallest.isfinite().nonzero()[:, 0]
    return positive, index[positive]


def paired_overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute overlap (P,) and generalised overlap (P,) of boxes (P, 4) with boxes (P, 4)."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0)
    shared = sides.prod(-1)
    union = (areas(a) + areas(b) - shared).clamp_min(1e-6)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull.clamp_min(1e-6)


def proposal_loss(
    logits: Tensor, predicted: Tensor, boxes: Sequence[Tensor], side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of the logits, the loss of the boxes, and the mean overlap.

    `logits` (B, G * G), `predicted` (B, G * G, 4), `boxes`: B tensors (N, 4).
    """
    quality = torch.zeros_like(logits)
    generalised, overlap_sum, positives = logits.new_zeros(()), logits.new_zeros(()), 0
    for row, own in enumerate(boxes):
        cells, index = assign(own, side)
        if not len(cells):
            continue
        overlap, general = paired_overlaps(predicted[row, cells], own[index])
        quality[row, cells] = overlap.detach().clamp(0.01, 1)
        generalised = generalised + (1 - general).sum()
        overlap_sum = overlap_sum + overlap.detach().sum()
        positives += len(cells)
    count = max(1, positives)
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    focal = ((logits.sigmoid() - quality).abs() ** 2 * entropy).sum()
    return focal / count, BOX_WEIGHT * generalised / count, overlap_sum / count
