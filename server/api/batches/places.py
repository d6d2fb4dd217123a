"""How many requests of batches run at a time: few while other requests run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.fairness import FairShare

CHECK_S = 0.05  # seconds between two checks whether other requests still run


class BatchPlaces:
    """Places for the requests of all batches of this process.

    Each request of another client takes a place away, except the last place, so that interactive
    requests find short queues and batches still make progress.
    """

    def __init__(self, count: int, running: FairShare) -> None:
        """`running`: all requests of the process, also those of batches."""
        self._count = count
        self._running = running
        self._taken = 0
        self._turn = asyncio.Lock()  # tasks wait in the order of their arrival
        self._free = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it inside the `with` block."""
        await self.take()
        try:
            yield
        finally:
            self.give_back()

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
        return max(1, self._count - others)
