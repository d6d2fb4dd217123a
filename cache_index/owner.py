"""IndexOwner: the one thread that uses an index. It answers waiting requests in batches.

A search for 16 queries takes far less than 16 times as long as a search for one query. Requests
that arrive during a search wait, and form the next batch. The owner does not wait until a batch is
full. It waits at most 2% of the last search's duration for the next requests of the clients that
have just received an answer. This module does not depend on HTTP.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import faiss
import numpy as np

from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow as EnhancedRow
from cache_index.errors import CacheBusy, CacheClosed, CacheError
from cache_index.index import CacheIndex
from cache_index.manifest import Manifest
from cache_index.searcher import Neighbors, check_queries

logger = logging.getLogger(__name__)

PAUSE = 0.02
# Maximum number of neighbors in one search, so that a large top_k does not delay other requests
# much.
GATHERED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Waiting:
    query: Array  # the embedding (D,) to enhance
    params: CacheParams
    explain: bool
    prototypes: bool
    future: Future[EnhancedRow] = field(default_factory=Future)


def ignore(batch: int, seconds: float) -> None:
    """The default observer."""


class IndexOwner:
    def __init__(
        self,
        index: CacheIndex,
        *,
        max_batch: int = 64,
        max_waiting: int = 1024,
        threads: int = 1,
        observe: Callable[[int, float], None] = ignore,
    ) -> None:
        """`threads`: FAISS's OpenMP threads for one batch. The owner's thread calls `observe` with
        each batch's size and seconds."""
        self.index = index
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._threads = threads
        self._observe = observe
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cache-index", daemon=True)
        self._thread.start()

    @property
    def dimension(self) -> int:
        return self.index.dimension

    @property
    def defaults(self) -> CacheParams:
        return self.index.manifest.defaults

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return (self.index.manifest,)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False, prototypes: bool = False
    ) -> EnhancedRow:
        """Enhance one query (D,). Cancelling the caller removes the request from the queue."""
        future = self.submit(query, params, explain=explain, prototypes=prototypes)
        return await asyncio.wrap_future(future)

    def submit(
        self, query: Array, params: CacheParams, *, explain: bool = False, prototypes: bool = False
    ) -> Future[EnhancedRow]:
        """Queue a query (D,). Any thread may call this method. Before queuing, raises QueryError
        for an invalid query, CacheBusy when the queue is full, and CacheClosed after `close`.
        """
        # check now, because an invalid query would fail its whole batch
        check_queries(query[None], self.dimension)
        request = Waiting(query, params, explain, prototypes)
        with self._changed:
            if self._closed:
                raise CacheClosed("the cache is closed")
            if len(self._waiting) >= self._max_waiting:
                raise CacheBusy(f"{self._max_waiting} requests already wait for the cache")
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def swap(self, index: CacheIndex) -> None:
        """Replace the index: the next batch searches the new index. No request is lost.

        The old index is freed after its last batch.
        Raises CacheError: when the vectors have another width.
        """
        if index.dimension != self.dimension:
            raise CacheError(
                f"{index.folder}: holds vectors of {index.dimension} numbers, the cache in use "
                f"{self.dimension}; only a cache of the same encoder can replace it"
            )
        self.index = index

    def close(self) -> None:
        """Answer the waiting requests, reject new requests and end the thread. Does not close the
        index.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def check(self) -> None:
        if not self._thread.is_alive():
            raise CacheClosed("the cache is closed")

    async def aclose(self) -> None:
        """Call `close`, which blocks, in a worker thread. Then close the index."""
        await asyncio.to_thread(self.close)
        self.index.close()

    def _run(self) -> None:
        # set in this thread, because OpenMP stores the number per thread
        faiss.omp_set_num_threads(self._threads)
        before, seconds = 0, 0.0
        while batch := self._next_batch(before, seconds):
            live = [r for r in batch if r.future.set_running_or_notify_cancel()]
            for group in groups(live):
                seconds = self._answer(group)
            before = len(live)

    def _next_batch(self, before: int, seconds: float) -> list[Waiting]:
        """Wait for requests.

        Returns at most max_batch of them, or an empty list after `close`. `before` and `seconds`:
        the size and duration of the last batch. Pauses briefly until there are as many requests as
        in the last batch. Without this pause, the next requests of 16 clients would form a batch of
        1 and a batch of 15.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(
                lambda: len(self._waiting) >= before or self._closed, timeout=PAUSE * seconds
            )
            return [
                self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))
            ]

    def _answer(self, batch: list[Waiting]) -> float:
        """Answer all requests of the batch. Returns the duration of the search in seconds."""
        start = time.perf_counter()
        try:
            rows = enhance_rows(self.index, batch)
            seconds = time.perf_counter() - start
            self._observe(len(batch), seconds)
        except Exception as error:  # a failed batch does not end the thread
            logger.exception("a batch of %d failed", len(batch))
            failure = CacheError(f"the cache failed to search: {type(error).__name__}")
            for request in batch:
                request.future.set_exception(failure)
            return 0.0
        for request, row in zip(batch, rows, strict=True):
            request.future.set_result(row)
        return seconds


def enhance_rows(index: CacheIndex, batch: list[Waiting]) -> list[EnhancedRow]:
    enhanced = index.enhance(
        np.stack([request.query for request in batch]), [request.params for request in batch]
    )
    return [
        take_row(index, enhanced.vectors[row], enhanced.neighbors, row, request)
        for row, request in enumerate(batch)
    ]


def take_row(
    index: CacheIndex, vector: Array, neighbors: Neighbors, row: int, request: Waiting
) -> EnhancedRow:
    hits = int(neighbors.hit[row].sum())  # in each row, the hits come first
    ids = neighbors.ids[row, :hits]
    return EnhancedRow(
        vector,
        ids,
        neighbors.similarity[row, :hits],
        tuple(index.captions[i] for i in ids.tolist()) if request.explain else (),
        neighbors.vectors[row, :hits] if request.prototypes else None,
    )


def groups(batch: list[Waiting]) -> Iterator[list[Waiting]]:
    """Split a batch, so that a search gathers at most GATHERED_ROWS rows. Usually, the batch stays
    whole.
    """
    group: list[Waiting] = []
    for request in sorted(batch, key=lambda r: r.params.top_k):
        if group and (len(group) + 1) * request.params.top_k > GATHERED_ROWS:
            yield group
            group = []
        group.append(request)
    if group:
        yield group
