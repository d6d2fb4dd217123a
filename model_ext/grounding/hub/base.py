"""TextDetector: the base class of the detectors from the library transformers.

A subclass computes all boxes (`raw`). This class applies the threshold, removes duplicate boxes of
a query, and clips boxes to the picture.
Shapes: N boxes of a picture, Q queries.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.grounding.boxes import suppress
from model_ext.grounding.detector import Detection, Query, Takes

# If two boxes of one query overlap by more than this, only the one with the higher score is kept.
MAX_OVERLAP = 0.5
MAX_BOXES = 100  # maximum number of boxes of one query in one picture
Picture = NDArray[np.uint8]
Raw = tuple[Tensor, Tensor]  # boxes (N, 4) in pixels, and their scores (N, Q) from 0 to 1


class Architecture(Protocol):
    """Base class. A subclass prepares the inputs and reads the outputs of one kind of model."""

    threshold: float  # the default threshold in transformers

    def raw(self, pictures: Sequence[Picture], texts: Sequence[Sequence[str]]) -> list[Raw]:
        """Compute all boxes of each picture (H, W, 3), with a score for each of the picture's
        texts.
        """
        ...


class TextDetector:
    takes: Takes = "texts"

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

    @property
    def threshold(self) -> float:
        return self.architecture.threshold

    @torch.inference_mode()
    def detect(
        self,
        pictures: Sequence[Picture],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        results: list[list[Detection]] = [[] for _ in pictures]
        texts = [[query.text for query in own] for own in queries]
        used = [index for index, own in enumerate(texts) if own]
        if not used:
            return results
        raw = self.architecture.raw([pictures[i] for i in used], [texts[i] for i in used])
        for index, (boxes, scores) in zip(used, raw, strict=True):
            height, width = pictures[index].shape[:2]
            results[index] = _select(boxes.cpu(), scores.cpu(), height, width, threshold)
        return results


def _select(
    boxes: Tensor, scores: Tensor, height: int, width: int, threshold: float
) -> list[Detection]:
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    clipped = boxes.clamp_min(0).minimum(limit)
    detections = []
    for query in range(scores.shape[1]):
        rows = (scores[:, query] > threshold).nonzero()[:, 0]
        best = rows[scores[rows, query].argsort(descending=True)[: 4 * MAX_BOXES]]
        kept = best[suppress(clipped[best], scores[best, query], MAX_OVERLAP, MAX_BOXES)]
        for row in kept.tolist():
            left, top, right, bottom = clipped[row].tolist()
            detections.append(
                Detection(query, (left, top, right, bottom), float(scores[row, query]))
            )
    return sorted(detections, key=lambda each: -each.score)


def corners(boxes: Tensor) -> Tensor:
    """Convert boxes (..., 4) from (center x, center y, width, height) to (left, top, right,
    bottom).
    """
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)
