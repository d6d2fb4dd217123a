"""The result cache: stores embeddings by the hash of the file's content, up to a number of bytes.

Concurrent requests with equal content share one computation. The computation is cancelled when the
last of these requests is cancelled. Use the cache in one event loop only.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar


class Cacheable(Protocol):
    """A result that the cache stores. Results must be immutable, because many requests share
    them.
    """

    @property
    def nbytes(self) -> int: ...


R = TypeVar("R", bound=Cacheable)


@dataclass(slots=True)
class InFlight(Generic[R]):
    task: asyncio.Task[R]
    waiting: int = 0


class ResultCache(Generic[R]):
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Ordered by last use, least recent first.
        self._kept: OrderedDict[Hashable, R] = OrderedDict()
        self._in_flight: dict[Hashable, InFlight[R]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[R]]) -> R:
        """Return the cached result, or else the result of `compute`.

        If `compute` raises an exception, all waiting callers get it.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        running = self._in_flight.get(key)
        if running is None:
            running = InFlight(asyncio.ensure_future(self._compute(key, compute)))
            self._in_flight[key] = running
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.waiting -= 1
            if running.waiting == 0 and not running.task.done():
                self._forget(key, running.task)
                running.task.cancel()  # no caller waits for the result any more

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[R]]) -> R:
        try:
            result = await compute()
        # Do not assign the task to a variable: the traceback of an error would reference it, and
        # keep the task's input in memory.
        finally:
            self._forget(key, asyncio.current_task())
        self._keep(key, result)
        return result

    def _forget(self, key: Hashable, task: asyncio.Task[Any] | None) -> None:
        running = self._in_flight.get(key)
        # If the entry belongs to a newer task, which has replaced this task, keep it.
        if running is not None and running.task is task:
            del self._in_flight[key]

    def _keep(self, key: Hashable, result: R) -> None:
        if result.nbytes > self._max_bytes:
            return
        self._kept[key] = result
        self.bytes += result.nbytes
        while self.bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.nbytes
