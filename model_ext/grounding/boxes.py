"""Boxes in pictures: their overlap, the removal of duplicates, and the padded square that a
detector reads.

A box is (left, top, right, bottom) in pixels. Shapes: N and M boxes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """Return the area that each of the boxes (N, 4) shares with each of the boxes (M, 4): (N,
    M).
    """
    corner = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = (corner - torch.maximum(a[:, None, :2], b[None, :, :2])).clamp_min(0)
    return sides.prod(-1)


def areas(boxes: Tensor) -> Tensor:
    """The areas (N,) of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of each of the boxes (N, 4) and each of the boxes (M, 4):
    (N, M).
    """
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    return shared / union.clamp_min(1e-9)


def suppress(boxes: Tensor, scores: Tensor, max_overlap: float, max_boxes: int) -> Tensor:
    """Return the indices of at most `max_boxes` boxes, from the highest score to the lowest.

    Omits a box that overlaps one with a higher score by more than `max_overlap`.
    """
    order = scores.argsort(descending=True, stable=True)
    overlap = overlaps(boxes[order], boxes[order])
    kept: list[int] = []
    for row in range(len(order)):
        if len(kept) == max_boxes:
            break
        if not kept or float(overlap[row, kept].max()) <= max_overlap:
            kept.append(row)
    return order[kept]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture scaled into the upper left corner of a square with `side` pixels."""

    side: int
    scale: float  # scale factor: pixels of the square per pixel of the picture

    @classmethod
    def of(cls, height: int, width: int, side: int) -> "Letterbox":
        return cls(side, side / max(height, width))

    def apply(self, picture: Tensor) -> Tensor:
        """Scale a picture (3, H, W) into the square (3, side, side). The rest is 0."""
        height, width = picture.shape[1:]
        size = [max(1, round(height * self.scale)), max(1, round(width * self.scale))]
        scaled = F.interpolate(
            picture[None], size, mode="bilinear", align_corners=False, antialias=True
        )[0]
        return F.pad(scaled, (0, self.side - size[1], 0, self.side - size[0]))
