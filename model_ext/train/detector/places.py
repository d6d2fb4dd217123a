"""Choose places for drawings in a batch of scenes, where drawings cover little of each other.

Shapes: B scenes, N slots for drawings, T tries.
"""

import torch
from torch import Generator, Tensor

from model_ext.train.detector.scenes import MAX_COVERED, TRIES


def outlines(extents: Tensor, maps: Tensor) -> Tensor:
    """Return boxes (B, N, 4) in pixels, relative to a drawing's middle, that contain the drawing.

    `extents` (B, N, 4) in the square [-1, 1] of the drawing; `maps` (B, N, 2, 2) from this square
    to pixels.
    """
    left, top, right, bottom = extents.unbind(-1)
    x = torch.stack([left, right, left, right], dim=-1)
    y = torch.stack([top, top, bottom, bottom], dim=-1)
    corners = maps @ torch.stack([x, y], dim=-2)  # shape (B, N, 2, 4)
    return torch.cat([corners.amin(-1), corners.amax(-1)], dim=-1)


def places(outline: Tensor, sizes: Tensor, wanted: Tensor, g: Generator) -> tuple[Tensor, Tensor]:
    """Draw the middles (B, N, 2) of drawings, and which slots (B, N) are used: at most the first
    `wanted` (B,) slots. A drawing is inside its scene of `sizes` (B, 2).
    """
    count, slots = outline.shape[:2]
    boxes = torch.zeros(count, slots, 4)
    middles, used = torch.zeros(count, slots, 2), torch.zeros(count, slots, dtype=torch.bool)
    scenes = torch.arange(count)
    for slot in range(slots):
        low, high = -outline[:, slot, :2], sizes - outline[:, slot, 2:]
        draws = torch.rand((count, TRIES, 2), generator=g)
        tries = low[:, None] + draws * (high - low)[:, None]
        candidates = tries.repeat(1, 1, 2) + outline[:, None, slot]
        fits = ((high >= low).all(1) & (slot < wanted))[:, None]
        good = fits & (covered(candidates, boxes) <= MAX_COVERED).all(-1)
        chosen = good.float().argmax(1)
        used[:, slot] = good.any(1)
        middles[:, slot] = tries[scenes, chosen]
        boxes[:, slot] = candidates[scenes, chosen] * used[:, slot, None]
    return middles, used


def covered(a: Tensor, b: Tensor) -> Tensor:
    """Return the share (B, T, N) of the smaller of two boxes that the other covers, for boxes
    (B, T, 4) and (B, N, 4). A box without area covers nothing.
    """
    one, other = a[:, :, None], b[:, None]
    corner = torch.minimum(one[..., 2:], other[..., 2:])
    shared = (corner - torch.maximum(one[..., :2], other[..., :2])).clamp_min(0).prod(-1)
    smaller = torch.minimum(_area(one), _area(other))
    return shared / smaller.clamp_min(1e-6)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
