"""Compare two ways to read the neighbors' vectors: one call for all, and one FAISS call for each
vector. The released code uses one FAISS call for each vector.

Each of 16 queries reads 10 random rows, the released number of neighbors. A copy of 160 consecutive
rows shows the maximum speed that the memory allows.

Shapes: B queries, K neighbors each, N rows, D dimensions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from cache_index.bench.exact import flat_rows
from cache_index.bench.pairs import Ratio, compare_rates
from cache_index.index import CacheIndex
from cache_index.recall import BATCH, TOP_K
from cache_index.vectors import Ids, Vectors

BATCHES = 200
TARGET = 10


def gathers(exact: CacheIndex, repeats: int) -> tuple[Ratio, ...]:
    """Measure three ways to read rows, and divide each speed by the speed of a loop of FAISS calls.

    The three ways are: gather the stored rows, gather float32 rows, copy consecutive rows.
    """
    index: Any = exact.searcher.index
    ids = np.random.default_rng(0).integers(index.ntotal, size=(BATCHES, BATCH, TOP_K))

    def loop() -> None:
        for batch in ids:
            np.stack([[index.reconstruct(int(i)) for i in row] for row in batch])

    def ratio(name: str, action: Callable[[], None], target: float | None = None) -> Ratio:
        return compare_rates(
            f"{name} / reconstruct loop",
            action,
            loop,
            done=ids.size,
            repeats=repeats,
            target=target,
        )

    same, stored = Vectors(flat_rows(exact)), exact.searcher.vectors
    return (
        ratio(f"gather of {stored.rows.dtype}, mapped", lambda: gather(stored, ids), TARGET),
        ratio("gather of float32", lambda: gather(same, ids), TARGET),
        ratio("copy of consecutive rows, float32", lambda: copy(same, ids)),
    )


def gather(vectors: Vectors, ids: Ids) -> None:
    for batch in ids:
        vectors.gather(batch)


def copy(vectors: Vectors, ids: Ids) -> None:
    for batch in ids:
        start = min(int(batch[0, 0]), len(vectors.rows) - batch.size)
        vectors.rows[start : start + batch.size].copy()
