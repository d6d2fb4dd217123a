"""IndexOwner: the one thread that touches an index, answering whoever waits in batches.

FAISS answers 16 queries in far less than 16 times the time of one. So while a batch is searched,
arrivals wait; the next batch is all of them. Nobody waits for a batch to fill up. Knows no HTTP.
"""

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheBusy, CacheClosed, CacheError
from cache_index.index import CacheIndex, Enhanced
from cache_index.searcher import Neighbors, check_queries

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnhancedRow:
    vector: Array  # (D,)
    ids: NDArray[np.int64]  # (K,) hits only, best first, at most top_k
    similarity: Array  # (K,)


@dataclass(frozen=True, slots=True)
class Waiting:
    query: Array  # (D,)
    params: CacheParams
    future: Future[EnhancedRow] = field(default_factory=Future)


class IndexOwner:
    def __init__(
        self, index: CacheIndex, *, max_batch: int = 64, max_waiting: int = 1024, threads: int = 1
    ) -> None:
        """`threads`: FAISS's own (OpenMP) threads for one batch."""
        self.index = index
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._threads = threads
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cache-index", daemon=True)
        self._thread.start()

    async def enhance(self, query: Array, params: CacheParams) -> EnhancedRow:
        """One query (D,). Cancelling the caller takes it out of the queue."""
        return await asyncio.wrap_future(self.submit(query, params))

    def submit(self, query: Array, params: CacheParams) -> Future[EnhancedRow]:
        """Any thread may call. QueryError, CacheBusy (queue full) and CacheClosed come at once."""
        check_queries(query[None], self.index.dimension)  # here: one bad query fails no batch
        request = Waiting(query, params)
        with self._changed:
            if self._closed:
                raise CacheClosed("the cache is closed")
            if len(self._waiting) >= self._max_waiting:
                raise CacheBusy(f"{self._max_waiting} requests are waiting for the cache already")
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Answer those who wait, refuse new ones, end the thread. The index stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        faiss.omp_set_num_threads(self._threads)  # OpenMP keeps this per calling thread
        while batch := self._next_batch():
            wanted = [r for r in batch if r.future.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _next_batch(self) -> list[Waiting]:
        """Whoever waits, at most max_batch; empty only when closed and everyone is answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [
                self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))
            ]

    def _answer(self, batch: list[Waiting]) -> None:
        try:
            queries = np.stack([request.query for request in batch])
            enhanced = self.index.enhance(queries, [request.params for request in batch])
        except Exception as error:  # a batch may fail, the thread must live
            logger.exception("a batch of %d failed", len(batch))
            failure = CacheError(f"the cache failed to search: {type(error).__name__}")
            for request in batch:
                request.future.set_exception(failure)
            return
        for row, request in enumerate(batch):
            request.future.set_result(take_row(enhanced, row, request.params.top_k))


def take_row(enhanced: Enhanced, row: int, top_k: int) -> EnhancedRow:
    neighbors: Neighbors = enhanced.neighbors
    hits = int(neighbors.hit[row, :top_k].sum())  # hits come first, gaps after them
    return EnhancedRow(
        enhanced.vectors[row], neighbors.ids[row, :hits], neighbors.similarity[row, :hits]
    )
