"""Limit the requests of batches that run at the same time: fewer while other requests run."""

import asyncio

from server.fairness.share import FairShare

CHECK_S = 0.05  # seconds between two checks of the number of other running requests


class BatchPlaces:
    """A place for each request of a batch that runs in this process.

    Each running request that belongs to no batch reduces the number of places by one, but not below
    one. So other requests wait in shorter queues, and batches still make progress.
    """

    def __init__(self, count: int, running: FairShare) -> None:
        """`running` counts all running requests of the process, including those of batches."""
        self.count = count
        self._running = running
        self._taken = 0
        # held by the first waiting task; the others wait in order of arrival
        self._turn = asyncio.Lock()
        self._free = asyncio.Event()

    async def take(self) -> None:
        async with self._turn:
            while self._taken >= self._allowed():
                self._free.clear()
                try:
                    async with asyncio.timeout(CHECK_S):
                        await self._free.wait()
                except TimeoutError:
                    continue
            self._taken += 1

    def give_back(self) -> None:
        self._taken -= 1
        self._free.set()

    def _allowed(self) -> int:
        others = max(0, self._running.used - self._taken)
        return max(1, self.count - others)


class BatchPlace:
    """The place of one request, which gives it back while it waits to be sent again."""

    def __init__(self, places: BatchPlaces) -> None:
        self._places = places
        self._held = False

    async def take(self) -> None:
        await self._places.take()
        self._held = True

    def give_back(self) -> None:
        """Give the place back if it is held."""
        if self._held:
            self._held = False
            self._places.give_back()
