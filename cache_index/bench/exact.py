"""Compare the exact search with a plain matrix product, and the tuned index with exact search.

Shapes: B queries, N rows, D dimensions.
"""

from typing import Any

import faiss
import numpy as np

from cache_index.bench.pairs import Ratio, compare_rates
from cache_index.captions import Captions
from cache_index.enhance import Array
from cache_index.features import BLOCK_ROWS
from cache_index.index import CacheIndex
from cache_index.recall import BATCH, TOP_K
from cache_index.searcher import Searcher

FAISS_BLAS_THRESHOLD = 128_000  # the default in FAISS 1.15; searcher.py sets a lower value


def exact_twin(cache: CacheIndex) -> CacheIndex:
    """Return a cache with the same rows, searched by FAISS's exact index, IndexFlatIP."""
    vectors = cache.searcher.vectors
    flat = faiss.IndexFlatIP(cache.dimension)
    for start in range(0, len(vectors.rows), BLOCK_ROWS):
        flat.add(vectors.rows[start : start + BLOCK_ROWS].astype(np.float32))
    none = Captions(None, np.zeros(0, dtype=np.int64), cache.folder)
    return CacheIndex(cache.folder, cache.manifest, Searcher(flat, vectors), none)


def flat_rows(exact: CacheIndex) -> Array:
    """Return the rows (N, D) of the IndexFlatIP without copying them."""
    index: Any = exact.searcher.index
    rows: Array = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return rows.reshape(-1, index.d)


def against_blas(exact: CacheIndex, queries: Array, repeats: int) -> Ratio:
    """Compare the exact search with NumPy: a matrix product, then a selection of the best rows."""
    rows, few = flat_rows(exact), queries[:BATCH]

    def limit() -> None:
        similarity = few @ rows.T
        best = np.argpartition(-similarity, TOP_K, axis=1)[:, :TOP_K]
        np.take_along_axis(similarity, best, axis=1)

    return compare_rates(
        f"exact search of {len(few)} / BLAS and top-k",
        lambda: exact.search(few, TOP_K),
        limit,
        done=len(few),
        repeats=repeats,
        target=0.8,
    )


def against_exact(
    tuned: CacheIndex,
    exact: CacheIndex,
    queries: Array,
    repeats: int,
    threshold: int | None = None,
) -> Ratio:
    """Compare the tuned index with IndexFlatIP. Both search 16 queries at a time.

    `threshold`: the number of queries above which FAISS multiplies matrices instead of looping over
    rows. Default: the value of searcher.py.
    """
    few = queries[: 2 * BATCH]

    def flat() -> None:
        setting = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = threshold or setting
        try:
            for start in range(0, len(few), BATCH):
                exact.searcher.index.search(few[start : start + BATCH], TOP_K)
        finally:
            faiss.cvar.distance_compute_blas_threshold = setting

    def fast() -> None:
        for start in range(0, len(queries), BATCH):
            tuned.search(queries[start : start + BATCH], TOP_K)

    return compare_rates(
        f"tuned / IndexFlatIP{' as shipped' if threshold else ' with BLAS'}, batch {BATCH}",
        fast,
        flat,
        done=len(queries),
        done_baseline=len(few),
        repeats=repeats,
        target=20,
    )
