"""Average precision of detections, as COCO defines it (101 points of recall).

Plain numpy. A box is (left, top, right, bottom).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class ScoredBox:
    picture: int
    box: tuple[float, float, float, float]
    score: float = 1.0  # score of a detection; not used for true boxes


def average_precision(
    detections: Sequence[ScoredBox], truth: Sequence[ScoredBox], min_overlap: float
) -> float:
    """The average precision of one class. A detection is right if it overlaps a true box of its
    picture by at least `min_overlap`, and no detection with a higher score was matched to this box.

    Raises ValueError: when there is no true box.
    """
    if not truth:
        raise ValueError("average precision needs at least one true box")
    taken: set[int] = set()
    right = []
    for each in sorted(detections, key=lambda each: -each.score):
        candidates = [
            (overlap(each.box, true.box), index)
            for index, true in enumerate(truth)
            if true.picture == each.picture and index not in taken
        ]
        best, index = max(candidates, default=(0.0, -1))
        right.append(best >= min_overlap)
        if right[-1]:
            taken.add(index)
    return _area(np.array(right, bool), len(truth))


def _area(right: NDArray[np.bool_], positives: int) -> float:
    """The mean over 101 levels of recall. Each level counts with the best precision at this or a
    higher recall.
    """
    if not len(right):
        return 0.0
    hits = np.cumsum(right)
    recall, precision = hits / positives, hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0
