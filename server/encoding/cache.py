"""The result cache: embeddings by the hash of their file's content, bounded in bytes.

Requests with equal content share one computation. It is cancelled when the last of them is
cancelled. For one event loop only.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any

from model_ext.conditioning import Vector


@dataclass(slots=True)
class InFlight:
    task: asyncio.Task[Vector]
    waiting: int = 0


class ResultCache:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Vector] = OrderedDict()  # least recently used first
        self._in_flight: dict[Hashable, InFlight] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        """The cached result, or the result of `compute`. All waiting callers get its exception."""
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
                running.task.cancel()  # no caller waits for it any more

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        try:
            result = await compute()
        finally:  # a variable for the task would keep its traceback, and so its input, in memory
            self._forget(key, asyncio.current_task())
        self._keep(key, result)
        return result

    def _forget(self, key: Hashable, task: asyncio.Task[Any] | None) -> None:
        running = self._in_flight.get(key)
        if running is not None and running.task is task:  # else a newer task replaced it
            del self._in_flight[key]

    def _keep(self, key: Hashable, result: Vector) -> None:
        if result.nbytes > self._max_bytes:
            return
        result.setflags(write=False)  # many requests share it
        self._kept[key] = result
        self.bytes += result.nbytes
        while self.bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.nbytes
