"""Places: units of a limit (FairShare) for which the work of clients waits."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.fairness.share import FairShare


class Places:
    def __init__(self, capacity: int) -> None:
        self.share = FairShare(capacity)
        # The waiting tasks of each client. The client that got a place last is at the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def place(self, client: str, wait_s: float) -> AsyncIterator[None]:
        """Hold a place. Raises TimeoutError: when the client gets none within `wait_s` seconds."""
        async with asyncio.timeout(wait_s):
            await self._take(client)
        try:
            yield
        finally:
            self._give_back(client)

    async def _take(self, client: str) -> None:
        if client not in self._waiting and self.share.take(client):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(client)
            raise

    def _give_back(self, client: str) -> None:
        self.share.give_back(client)
        for name, turns in list(self._waiting.items()):
            while turns and turns[0].done():  # a cancelled task
                turns.popleft()
            if turns and self.share.take(name):
                turns.popleft().set_result(None)
                self._waiting[name] = self._waiting.pop(name)
            if not turns:
                del self._waiting[name]
