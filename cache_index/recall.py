"""Recall: the share of the exact nearest neighbors that an index returns.

Shapes: B queries, K neighbors each, N rows, D embedding dimensions.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.features import BLOCK_ROWS
from cache_index.searcher import Searcher
from cache_index.vectors import Ids

BATCH = 16  # Number of queries that are searched at a time, as in a busy service.
TOP_K = 10  # Default number of neighbors, as in the released code.


@dataclass(frozen=True, slots=True)
class Trial:
    """Test queries with their exact nearest neighbors."""

    queries: Array  # Test queries (B, D).
    # Row numbers (B,) if the queries are rows of the cache, because a row is not its own neighbor.
    own: Ids | None
    # Row numbers (B, K) of the exact nearest neighbors.
    truth: Ids

    def recall(self, searcher: Searcher) -> NDArray[np.float64]:
        """Return, for each query (B,), the share of its true neighbors that the search returns."""
        top_k = self.truth.shape[1]
        number = top_k if self.own is None else top_k + 1
        neighbors = np.concatenate(
            [
                searcher.search(self.queries[start : start + BATCH], number).ids
                for start in range(0, len(self.queries), BATCH)
            ]
        )
        if self.own is not None:
            neighbors = without(neighbors, self.own)
        hit = (neighbors[:, :, None] == self.truth[:, None, :]).any(axis=1)
        share: NDArray[np.float64] = hit.mean(axis=1)
        return share


def make_trial(rows: Array, queries: Array, own: Ids | None, top_k: int) -> Trial:
    if own is None:
        return Trial(queries, None, exact_neighbors(rows, queries, top_k))
    return Trial(queries, own, without(exact_neighbors(rows, queries, top_k + 1), own))


def exact_neighbors(rows: NDArray[np.floating], queries: Array, top_k: int) -> Ids:
    """Return ids (B, K) of the rows (N, D) with the largest inner products with queries (B, D)."""
    heap = faiss.ResultHeap(len(queries), top_k, keep_max=True)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS].astype(np.float32)
        similarity, ids = faiss.knn(
            queries, block, min(top_k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(similarity, ids + start)
    heap.finalize()
    neighbors: Ids = heap.I
    return neighbors


def without(ids: Ids, own: Ids) -> Ids:
    """Remove from each list of ids the query's own row or, if it is absent, the last id: (B, K + 1)
    -> (B, K).
    """
    is_own = ids == own[:, None]
    is_own[:, -1] |= ~is_own.any(axis=1)
    others: Ids = ids[~is_own].reshape(len(ids), -1)
    return others
