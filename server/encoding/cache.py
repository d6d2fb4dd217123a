"""ResultCache: results kept by the hash of what they were computed from, bounded in bytes.

Equal content in flight is computed once, however many requests wait for it. It does not know what
is computed. One event loop only; a computation goes on as long as somebody waits for it.
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
        """The kept result, or that of `compute`. A failure is raised to all waiters, not kept."""
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
                running.task.cancel()  # everybody left

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        try:
            result = await compute()
        finally:  # no name for the task: its traceback would keep it, and what it computes from
            self._forget(key, asyncio.current_task())
        self._keep(key, result)
        return result

    def _forget(self, key: Hashable, task: asyncio.Task[Any] | None) -> None:
        running = self._in_flight.get(key)
        if running is not None and running.task is task:  # else a newer one took its place
            del self._in_flight[key]

    def _keep(self, key: Hashable, result: Vector) -> None:
        if result.nbytes > self._max_bytes:
            return
        result.setflags(write=False)  # handed to many requests
        self._kept[key] = result
        self.bytes += result.nbytes
        while self.bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.nbytes
