"""The losses of the proposal network.

A cell whose center is near the middle of a box is positive. The target of its logit is the overlap
of its predicted box with the true box (quality focal loss, Li et al. 2020). The loss of its
predicted box is the generalised overlap (Rezatofighi et al. 2019).
Shapes: B pictures, G * G cells, N boxes of a picture, P positive cells.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model_ext.grounding.bind.proposals import STRIDE, centers
from model_ext.grounding.boxes import areas

# A cell is positive if its distance from the box's middle is less than this share of the box's
# side, but at most MAX_REACH pixels, so that large boxes do not have many more cells than small
# boxes.
SHARE = 0.2
MAX_REACH = 1.5 * STRIDE + 0.01
BOX_WEIGHT = 2.0


def assign(boxes: Tensor, side: int) -> Tensor:
    """Return for each cell (B, G * G) the index of its true box (B, N, 4), or -1 for none.

    If a cell is near the middles of several boxes, its true box is the smallest of them. A box
    without area has no cells.
    """
    cells = centers(side, boxes.device)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    reach = (sides * SHARE).clamp(STRIDE / 2 + 0.01, MAX_REACH)
    near = ((cells[:, None] - middle[:, None]).abs() <= reach[:, None]).all(-1)  # (B, G * G, N)
    size = sides.prod(-1)[:, None]
    size = torch.where(near & (size > 0), size, torch.inf)
    smallest, index = size.min(-1)
    return torch.where(smallest.isfinite(), index, -1)


def paired_overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute overlap (P,) and generalised overlap (P,) of boxes (P, 4) with boxes (P, 4)."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0)
    shared = sides.prod(-1)
    union = (areas(a) + areas(b) - shared).clamp_min(1e-6)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull.clamp_min(1e-6)


def proposal_loss(
    logits: Tensor, predicted: Tensor, boxes: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of the logits, the loss of the boxes, and the mean overlap.

    `logits` (B, G * G), `predicted` (B, G * G, 4), `boxes` (B, N, 4) with boxes without area in
    unused slots.
    """
    index = assign(boxes, side)
    scenes, cells = (index >= 0).nonzero(as_tuple=True)
    overlap, general = paired_overlaps(
        predicted[scenes, cells], boxes[scenes, index[scenes, cells]]
    )
    quality = torch.zeros_like(logits)
    quality[scenes, cells] = overlap.detach().clamp(0.01, 1)
    count = max(1, len(cells))
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    focal = ((logits.sigmoid() - quality).abs() ** 2 * entropy).sum()
    box = (1 - general).sum()
    return focal / count, BOX_WEIGHT * box / count, overlap.detach().sum() / count
