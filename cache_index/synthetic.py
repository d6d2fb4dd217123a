"""Generate features for measurements: any number of reproducible rows that are hard to search.

Real image embeddings form thousands of overlapping groups, with most of their variance in few
directions. The generated rows have the same properties: they form CENTERS groups; the variances of
the centers and of the members' offsets fall like 1/i, and one random rotation is applied to all.
FAISS's usual test data (a few distant clusters) would make every index look better. The generator
was fixed before any index was tuned on it. Every part of a stream can be generated separately.

Shapes: N rows, D dimensions.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from cache_index.captions import Caption
from cache_index.enhance import Array, normalize

CENTERS = 3000
SPREAD = 0.7  # Length of a member's offset; centers have a length of about 1.
BLOCK = 8192  # Number of rows that are generated at a time. Another number leads to other rows.

# Three random streams, whose rows differ and belong to the same groups.
ROWS, TUNING_QUERIES, UNSEEN_QUERIES = 0, 1, 2


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
    # Make the signs equal on every machine; versions of LAPACK return different signs.
    rotation *= np.sign(np.diag(upper))
    return centers, rotation.astype(np.float32)


def falling(dimension: int) -> Array:
    """Standard deviations (D,) whose squares fall like 1/i and sum to 1."""
    variance = 1 / np.arange(1, dimension + 1)
    deviation: Array = np.sqrt(variance / variance.sum()).astype(np.float32)
    return deviation
