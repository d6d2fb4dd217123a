"""Searcher: find candidates with the index, and score them with the stored vectors.

A compressed index (scalar or product quantizer, or float16 on a GPU) returns approximate
similarities, whose errors the softmax of the enhancement would magnify. Therefore, the searcher
computes the similarities again from the stored vectors, which the enhancement needs anyway.
`refine` is the number of candidates per returned neighbor.

Shapes: B queries, K neighbors each, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.device import max_candidates, max_cells
from cache_index.enhance import Array
from cache_index.errors import QueryError
from cache_index.exact import SPARE_RESULTS, ExactIndex
from cache_index.manifest import SearchSettings
from cache_index.vectors import Ids, Vectors

# The size B * D of queries above which FAISS multiplies matrices instead of looping over rows. With
# FAISS's default of 128000, an exact search of 16 queries takes five times as long. FAISS's
# variable applies to the whole process, and affects only the speed.
faiss.cvar.distance_compute_blas_threshold = 3 * 1024


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of each query, best first. Missing rows have the id -1 and similarity 0."""

    ids: Ids  # Row numbers (B, K).
    similarity: Array  # Inner products (B, K).
    vectors: Array  # Stored vectors (B, K, D).

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.ids >= 0


class Searcher:
    def __init__(self, index: Any, vectors: Vectors) -> None:
        self.index = index  # a FAISS index or an ExactIndex
        self.vectors = vectors
        self.refine = 1
        self.dimension: int = index.d

    @property
    def cells(self) -> int:
        """Return the number of cells of an IVF index, or 0 for an exact search."""
        return getattr(self.index, "nlist", 0)

    def apply(self, settings: SearchSettings) -> None:
        """Use these settings. `nprobe` applies to indexes with cells, `refine` to inexact ones."""
        if settings.nprobe is not None and self.cells:
            self.index.nprobe = min(settings.nprobe, max_cells(self.index))
        self.refine = 1 if isinstance(self.index, ExactIndex) else settings.refine

    def search(self, queries: Array, top_k: int | Sequence[int]) -> Neighbors:
        """Find the rows with the largest inner products with each query (B, D).

        `top_k`: one number, or one per query. K is the largest of them. The result of a query does
        not depend on the other queries of the batch.
        """
        queries = check_queries(queries, self.dimension)
        # shape (B, 1): the number of neighbors of each query
        limit = np.broadcast_to(np.asarray(top_k, dtype=np.int64), len(queries))[:, None]
        spare = SPARE_RESULTS if isinstance(self.index, ExactIndex) else 0
        number = np.minimum(limit * self.refine + spare, max_candidates(self.index))
        ids = self._candidates(queries, number)
        vectors = self.vectors.gather(ids)
        similarity = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        order = np.argsort(-np.where(ids < 0, -np.inf, similarity), axis=1, kind="stable")
        best = order[:, : int(limit.max())]
        ids = np.take_along_axis(ids, best, axis=1)
        ids = np.where(np.arange(ids.shape[1]) < limit, ids, -1)
        similarity = np.where(ids < 0, np.float32(0), np.take_along_axis(similarity, best, axis=1))
        return Neighbors(ids, similarity, np.take_along_axis(vectors, best[:, :, None], axis=1))

    def _candidates(self, queries: Array, limits: Ids) -> Ids:
        """Return the best rows (B, K) of each query, by the index. Ids beyond the query's limit (B,
        1) are -1.
        """
        numbers = np.full(len(queries), limits.max())
        if isinstance(self.index, faiss.IndexIVFPQFastScan):
            # Several rows can have the same 8-bit score. Which of them FAISS returns depends on the
            # requested number of candidates, so this number must not depend on other queries.
            numbers = 2 ** np.ceil(np.log2(limits[:, 0])).astype(np.int64)
        ids: Ids = np.full((len(queries), numbers.max()), -1, dtype=np.int64)
        for number in np.unique(numbers).tolist():
            same = numbers == number
            _, ids[same, :number] = self.index.search(queries[same], number)
        return np.where(np.arange(ids.shape[1]) < limits, ids, -1)


def check_queries(queries: Array, dimension: int) -> Array:
    """Return the queries as float32 (B, D).

    Raises QueryError: for another shape, NaN or infinity.
    """
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise QueryError(
            f"expected queries of shape (B, {dimension}) for this cache, got {queries.shape}"
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if not np.isfinite(queries).all():
        raise QueryError("a query holds NaN or infinity")
    return queries
