"""Measure the queries per second of a search, one query at a time and in batches.

Shapes: B queries, D dimensions.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cache_index.bench.pairs import seconds
from cache_index.enhance import Array
from cache_index.index import CacheIndex
from cache_index.recall import TOP_K

BATCHES = (1, 16, 256)  # batch sizes: queries searched at a time


@dataclass(frozen=True, slots=True)
class Speed:
    batch: int
    candidates_per_s: float  # Queries per second of the index search alone.
    queries_per_s: float  # Queries per second with gathering and float32 scoring.


def speeds(cache: CacheIndex, queries: Array, repeats: int) -> tuple[Speed, ...]:
    """Measure each batch size `repeats` times, and return the medians."""
    return tuple(speed(cache, np.resize(queries, (b, cache.dimension)), repeats) for b in BATCHES)


def speed(cache: CacheIndex, batch: Array, repeats: int) -> Speed:
    def rate(search: Callable[[Array, int], object]) -> float:
        search(batch, TOP_K)  # This search only warms up the index and is not measured.
        return len(batch) / statistics.median(
            seconds(lambda: search(batch, TOP_K)) for _ in range(repeats)
        )

    return Speed(len(batch), rate(cache.searcher.index.search), rate(cache.search))
