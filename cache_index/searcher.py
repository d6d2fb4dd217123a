"""Searcher: FAISS proposes rows, the vectors themselves decide.

A compressed index (scalar or product quantizer, or a GPU's float16) ranks roughly and returns
rough similarities, which the enhancement's softmax would magnify. So candidates are always scored
again with the stored vectors, which have to be gathered anyway; `refine` asks for that many times
more of them.

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

# From how many numbers of queries on (B * D, here 3 queries of 1024) FAISS multiplies matrices
# instead of looping over rows. Its default, 128000, makes an exact search of 16 queries five times
# slower than it could be. The variable is the whole process's, but changes nothing but speed.
faiss.cvar.distance_compute_blas_threshold = 3 * 1024


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
    def __init__(self, index: Any, vectors: Vectors) -> None:
        self.index = index  # faiss.Index
        self.vectors = vectors
        self.refine = 1
        self.dimension: int = index.d

    @property
    def cells(self) -> int:
        """Of an IVF index; 0 of one that searches exactly."""
        return getattr(self.index, "nlist", 0)

    def apply(self, settings: SearchSettings) -> None:
        """An index without cells ignores `nprobe`; one that searches exactly needs no `refine`."""
        if settings.nprobe is not None and self.cells:
            self.index.nprobe = min(settings.nprobe, max_cells(self.index))
        self.refine = 1 if isinstance(self.index, ExactIndex) else settings.refine

    def search(self, queries: Array, top_k: int | Sequence[int]) -> Neighbors:
        """The rows with the largest inner product with each query (B, D).

        With a top_k of its own for each query, K is the largest; a query's answer does not depend
        on the others that happen to be in its batch.
        """
        queries = check_queries(queries, self.dimension)
        limit = np.broadcast_to(np.asarray(top_k, dtype=np.int64), len(queries))[:, None]  # (B, 1)
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

    def _candidates(self, queries: Array, wanted: Ids) -> Ids:
        """FAISS's best rows (B, K) of each query, -1 past its own number wanted (B, 1)."""
        asked = np.full(len(queries), wanted.max())
        if isinstance(self.index, faiss.IndexIVFPQFastScan):
            # Its 8-bit scores tie, and which of the tied are kept depends on how many are asked
            # for: that must not be decided by the other queries of the batch.
            asked = 2 ** np.ceil(np.log2(wanted[:, 0])).astype(np.int64)
        ids: Ids = np.full((len(queries), asked.max()), -1, dtype=np.int64)
        for number in np.unique(asked).tolist():
            _, ids[asked == number, :number] = self.index.search(queries[asked == number], number)
        return np.where(np.arange(ids.shape[1]) < wanted, ids, -1)


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
