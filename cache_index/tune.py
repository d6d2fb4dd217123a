"""Find the cheapest search settings that reach a recall, with FAISS's own auto-tuning.

FAISS's ParameterSpace lists the numbers of visited cells to try (powers of two), and its
OperatingPoints store the fastest setting for each recall. Between the last number of cells that
misses the recall and the first that reaches it, this module bisects. One set of queries is used to
choose the settings, and another set to report their recall.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from cache_index.manifest import SearchSettings
from cache_index.recall import Trial
from cache_index.searcher import Searcher

logger = logging.getLogger(__name__)

REFINE = (1, 2, 4, 8, 16, 32)
# Kinds of index with exact scores, for which `refine` (scoring more candidates again) changes
# nothing.
LOSSLESS = (faiss.IndexFlat, faiss.IndexIVFFlat)


@dataclass(frozen=True, slots=True)
class Point:
    settings: SearchSettings
    recall: float
    margin: float  # Two standard errors of the recall.
    seconds: float  # Seconds per query, in batches of 16.

    def reaches(self, target: float) -> bool:
        """Whether the recall minus its margin is at least the target."""
        return self.recall - self.margin >= target


def tune(searcher: Searcher, trial: Trial, target: float) -> tuple[Point, list[Point]]:
    """Return the chosen point and all points.

    The chosen point is the fastest that reaches the target, or else the one with the best recall.
    """
    points: list[Point] = []
    for refine in (1,) if isinstance(searcher.index, LOSSLESS) else REFINE:
        points += search_cells(searcher, trial, target, refine)
    passing = [point for point in points if point.reaches(target)]
    if passing:
        return min(passing, key=lambda point: point.seconds), points
    best = max(points, key=lambda point: point.recall)
    logger.warning(
        "recall %.3f is the best that this index reaches; the target is %.3f", best.recall, target
    )
    return best, points


def search_cells(searcher: Searcher, trial: Trial, target: float, refine: int) -> Iterator[Point]:
    """Measure 1, 2, 4, ... cells until the target is reached, then bisect to the smallest
    number.
    """
    failing, passing = 0, 0
    for nprobe in cell_range(searcher):
        point = measure(searcher, trial, SearchSettings(nprobe=nprobe, refine=refine))
        yield point
        if point.reaches(target):
            passing = nprobe
            break
        failing = nprobe
    while passing - failing > max(1, passing // 16):
        middle = (failing + passing) // 2
        point = measure(searcher, trial, SearchSettings(nprobe=middle, refine=refine))
        yield point
        failing, passing = (failing, middle) if point.reaches(target) else (middle, passing)


def cell_range(searcher: Searcher) -> list[int]:
    space = faiss.ParameterSpace()
    space.initialize(searcher.index)
    ranges = [space.parameter_ranges.at(i) for i in range(space.parameter_ranges.size())]
    values = [int(v) for r in ranges if r.name == "nprobe" for v in faiss.vector_to_array(r.values)]
    return [*values, searcher.index.nlist]


def measure(searcher: Searcher, trial: Trial, settings: SearchSettings) -> Point:
    searcher.apply(settings)
    start = time.perf_counter()
    recall = trial.recall(searcher)
    seconds = (time.perf_counter() - start) / len(trial.queries)
    margin = 2 * float(recall.std()) / np.sqrt(len(recall))
    return Point(settings, float(recall.mean()), float(margin), seconds)


def frontier(points: list[Point]) -> list[Point]:
    """Return the points that no other point exceeds in both recall and speed, selected by FAISS."""
    kept = faiss.OperatingPoints()
    for number, point in enumerate(points):
        kept.add(point.recall, point.seconds, str(number), number)
    best = [kept.optimal_pts.at(i) for i in range(kept.optimal_pts.size())]
    return [points[p.cno] for p in best if p.cno >= 0]
