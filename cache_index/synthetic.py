"""Generate features for measurements: any number of reproducible rows that are hard to search.

Real image embeddings form thousands of overlapping groups, and most of their variance is in few
directions. The generated rows have these properties, too. Each row is the center of one of CENTERS
groups plus a random offset. Direction i of the centers, and of the offsets, has a variance that is
proportional to 1/i. One random rotation is applied to all rows. FAISS's usual test data, a few
distant clusters, are easier to search and would make every index look better. The generator was not
changed after the first index was tuned on its rows. Each block of rows can be generated without the
blocks before it.

Shapes: N rows, D dimensions.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from cache_index.captions import Caption
from cache_index.enhance import Array, normalize

CENTERS = 3000
SPREAD = 0.7  # Length of a row's offset from its group's center. A center's length is about 1.
BLOCK = 8192  # Number of rows generated at a time. Another number gives other rows.

# Numbers of three random streams, which generate different rows of the same groups.
ROWS, TUNING_QUERIES, UNSEEN_QUERIES = 0, 1, 2


class SyntheticFeatures:
    """Implements `cache_index.features.Features`. Computes the rows instead of reading a file."""

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
    """Return the groups' centers (CENTERS, D) and the rotation (D, D) of all rows."""
    rng = np.random.default_rng((seed, 0))
    centers = rng.standard_normal((CENTERS, dimension), dtype=np.float32) * falling(dimension)
    rotation, upper = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    # Fix the signs of the columns, which differ between versions of LAPACK.
    rotation *= np.sign(np.diag(upper))
    return centers, rotation.astype(np.float32)


def falling(dimension: int) -> Array:
    """Return standard deviations (D,), whose squares are proportional to 1/i and sum to 1."""
    variance = 1 / np.arange(1, dimension + 1)
    deviation: Array = np.sqrt(variance / variance.sum()).astype(np.float32)
    return deviation
