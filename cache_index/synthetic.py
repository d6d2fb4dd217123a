"""Features for measurements: any number of rows, always the same, and hard to search.

Real image embeddings form thousands of overlapping groups, with most of their variance in few
directions. So do these rows: CENTERS groups, whose centers and whose members' offsets both have a
spectrum that falls like 1/i, turned by one random rotation so that no coordinate is special.
FAISS's usual test data (a few distant clusters) would flatter every index. The generator was fixed
before any index was tuned on it. Every part of a stream can be made alone.

Shapes: N rows, D dimensions.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from cache_index.captions import Caption
from cache_index.enhance import Array, normalize

CENTERS = 3000
SPREAD = 0.7  # length of a member's offset from its center, whose length is about 1
BLOCK = 8192  # rows made at a time: part of the definition

ROWS, TUNING_QUERIES, UNSEEN_QUERIES = 0, 1, 2  # streams that share the groups and nothing else


class SyntheticFeatures:
    """`cache_index.features.Features` that are computed instead of read."""

    def __init__(self, count: int, dimension: int = 1024, *, stream: int = ROWS, seed: int = 0):
        self.path = Path(f"synthetic-{count}x{dimension}-stream{stream}-seed{seed}")
        self.count = count
        self.dimension = dimension
        self._stream = stream
        self._seed = seed

    def blocks(self) -> Iterator[Array]:
        for number, start in enumerate(range(0, self.count, BLOCK)):
            rows = make_block(self.dimension, self._seed, self._stream, number)
            yield rows[: self.count - start]

    def captions(self) -> Iterator[Caption]:
        return (Caption(f"synthetic row {row}") for row in range(self.count))


def make_block(dimension: int, seed: int, stream: int, number: int) -> Array:
    """Unit vectors (BLOCK, D)."""
    centers, rotation = groups(dimension, seed)
    rng = np.random.default_rng((seed, 1 + stream, number))
    offsets = rng.standard_normal((BLOCK, dimension), dtype=np.float32) * falling(dimension)
    members = centers[rng.integers(CENTERS, size=BLOCK)] + np.float32(SPREAD) * offsets
    return normalize(members @ rotation)


@lru_cache(maxsize=2)
def groups(dimension: int, seed: int) -> tuple[Array, Array]:
    """Centers (CENTERS, D) and a rotation (D, D)."""
    rng = np.random.default_rng((seed, 0))
    centers = rng.standard_normal((CENTERS, dimension), dtype=np.float32) * falling(dimension)
    rotation, upper = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    rotation *= np.sign(np.diag(upper))  # LAPACKs differ in the signs that they choose
    return centers, rotation.astype(np.float32)


def falling(dimension: int) -> Array:
    """Standard deviations (D,) whose squares fall like 1/i and sum to 1."""
    variance = 1 / np.arange(1, dimension + 1)
    deviation: Array = np.sqrt(variance / variance.sum()).astype(np.float32)
    return deviation
