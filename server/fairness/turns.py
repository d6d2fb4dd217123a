"""Turns: decides whose work comes next, if the work of several clients waits for one resource."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from server.fairness.order import FairOrder


class Turns:
    """A lock that clients get in turn."""

    def __init__(self) -> None:
        self._order = FairOrder()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = count()  # order of work whose numbers are equal
        self._taken = False

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait until it is the turn of the client's work. The turn ends with the `with` block."""
        await self._begin(client)
        try:
            yield
        finally:
            self._pass_on()

    async def step(self, client: str) -> None:
        """Wait until it is the client's turn. The turn ends after this iteration of the event loop,
        so that the tasks that call this method continue one by one.
        """
        await self._begin(client)
        asyncio.get_running_loop().call_soon(self._pass_on)

    async def _begin(self, client: str) -> None:
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

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # skip a task that was cancelled
                return turn.set_result(None)
        self._taken = False
