"""Turns: the order in which files of different clients get the next free decoding process."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from server.fairness import FairOrder


class Turns:
    """A lock. The task that holds it waits for a free process. Clients get the lock by turns."""

    def __init__(self) -> None:
        self._order = FairOrder()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = count()  # decides between files with equal numbers
        self._taken = False

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for the turn of the client's next file. The turn ends with the `with` block."""
        number = self._order.number(client)
        if self._taken:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (number, next(self._arrivals), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        self._taken = True
        self._order.start(number, last=not self._waiting)
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # a cancelled task does not wait any more
                return turn.set_result(None)
        self._taken = False
