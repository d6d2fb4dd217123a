"""Searcher: FAISS proposes rows, the vectors themselves decide.

A compressed index (scalar or product quantizer, or a GPU's float16) ranks roughly and returns
rough similarities, which the enhancement's softmax would magnify. So candidates are always scored
again with the stored vectors, which have to be gathered anyway; `refine` asks for that many times
more of them.

Shapes: B queries, K neighbors each, D embedding dimensions.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.errors import QueryError
from cache_index.vectors import Ids, Vectors

MAX_CANDIDATES = 2048  # of one query: what a GPU index returns at most
BLAS_BATCH = 3  # queries from which on a matrix product beats FAISS's own loop over the rows


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Best first. Where FAISS found fewer than K, the id is -1 and the similarity 0."""

    ids: Ids  # (B, K) row numbers
    similarity: Array  # (B, K) inner products
    vectors: Array  # (B, K, D)

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.ids >= 0


class Searcher:
    def __init__(self, index: Any, vectors: Vectors, *, refine: int = 1) -> None:
        self.index = index  # faiss.Index
        self.vectors = vectors
        self.refine = refine
        self.dimension: int = index.d

    def search(self, queries: Array, top_k: int) -> Neighbors:
        """The top_k rows with the largest inner product with each query (B, D)."""
        queries = check_queries(queries, self.dimension)
        wanted = max(top_k, min(top_k * self.refine, MAX_CANDIDATES))
        # FAISS reads this per call, and by default (1.15) multiplies matrices only for batches
        # of 125 and more at D = 1024: five times slower than it could be at 16.
        faiss.cvar.distance_compute_blas_threshold = BLAS_BATCH * self.dimension
        _, ids = self.index.search(queries, wanted)
        vectors = self.vectors.gather(ids)
        similarity = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        order = np.argsort(-np.where(ids < 0, -np.inf, similarity), axis=1, kind="stable")
        best = order[:, :top_k]
        ids = np.take_along_axis(ids, best, axis=1)
        similarity = np.where(ids < 0, np.float32(0), np.take_along_axis(similarity, best, axis=1))
        return Neighbors(ids, similarity, np.take_along_axis(vectors, best[:, :, None], axis=1))


def check_queries(queries: Array, dimension: int) -> Array:
    """As float32 (B, D), or QueryError."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise QueryError(
            f"expected queries of shape (B, {dimension}) for this cache, got {queries.shape}"
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if not np.isfinite(queries).all():
        raise QueryError("a query holds NaN or infinity")
    return queries
