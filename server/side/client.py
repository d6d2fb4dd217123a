"""The client of a side model. Each API process has one client per enabled side model.

Each task has its own connection; closing the connection cancels the task. While the process is
down, `ask` raises Unavailable; requests that do not use the side model are not affected.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path

from model_ext.side import Json, SideData, ignore
from server.context import client, key_salt
from server.encoding.cache import ResultCache
from server.errors import Unavailable
from server.metrics import SIDE_BATCH, SIDE_HITS, SIDE_UP, SIDE_WAITING, stage
from server.process import data_file
from server.process.error_message import MessageError, raise_described
from server.process.local_socket import connected, open_folder
from server.side.messages import (
    SidePart,
    SideRequest,
    SideResponse,
    SideState,
    SideWatch,
    encode,
    receive,
    send_file,
)

logger = logging.getLogger(__name__)

AGAIN_S = 0.1  # seconds between two attempts to connect


class SideClient:
    def __init__(
        self, name: str, path: Path, *, cache_bytes: int = 0, share_results: bool = False
    ) -> None:
        """`path`: the path of the process's socket. `cache_bytes`: the maximum size of the result
        cache. `share_results`: whether API keys share the results of equal files.
        """
        self.name = name
        self._share_results = share_results
        self._results: ResultCache[SideData] = ResultCache(cache_bytes)
        self._folder, self._path = open_folder(path)
        self._state: SideState | None = None
        self._first: asyncio.Future[SideState] = asyncio.Future()
        self._watching = asyncio.ensure_future(self._watch())

    @property
    def up(self) -> bool:
        return self._state is not None

    async def state(self) -> SideState:
        """Wait until the process answers. Returns its first state."""
        return await self._first

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])
        os.close(self._folder)

    async def ask(self, data: SideData, on_part: Callable[[Json], None] = ignore) -> SideData:
        """Run one task. `on_part` gets the parts that the model emits before the result.

        Cancelling the caller cancels the task.

        Raises Unavailable: when the queue is full or the process is down. BadRequest: when the
        model rejects the task. InternalError: when the model fails.
        """
        with stage(f"side_{self.name}"):
            try:
                async with connected(self._path) as service:
                    descriptor = await data_file.written(data)
                    await send_file(service, SideRequest(client()), descriptor)
                    return await self._result(service, on_part)
            except (OSError, MessageError):
                raise self._gone() from None

    async def cached(
        self,
        digest: bytes,
        document: Json,
        load: Callable[[], Awaitable[SideData]],
    ) -> SideData:
        """Run a task whose result depends only on a file and on `document`, or return its stored
        result. Concurrent callers share one run, which is cancelled when all its callers are
        cancelled.

        `digest`: the SHA-256 of the file. `load` returns the task's data. Raises as `ask` does.
        """
        salt = "" if self._share_results else key_salt()
        key: Hashable = (salt, digest, json.dumps(document, sort_keys=True))
        hit = True

        async def compute() -> SideData:
            nonlocal hit
            hit = False
            return await self.ask(await load())

        result = await self._results.get(key, compute)
        if hit:
            SIDE_HITS.labels(self.name).inc()
        return result

    async def _result(self, service: socket.socket, on_part: Callable[[Json], None]) -> SideData:
        while True:
            message, descriptor = await receive(service)
            match message:
                case SidePart(document):
                    on_part(document)
                case SideResponse(error):
                    raise_described(error)
                    if descriptor is None:
                        raise MessageError("a result without data")
                    return await data_file.loaded(descriptor)

    async def _watch(self) -> None:
        """Receive the state of the process, and connect again whenever it is down."""
        SIDE_UP.labels(self.name).set(0)
        while True:
            with contextlib.suppress(OSError, MessageError):
                async with connected(self._path) as service:
                    await asyncio.get_running_loop().sock_sendall(service, encode(SideWatch()))
                    while True:
                        message, _ = await receive(service)
                        self._follow(message)
            if self._state is not None:
                logger.warning("the side model %s is down", self.name)
            self._state = None
            SIDE_UP.labels(self.name).set(0)
            await asyncio.sleep(AGAIN_S)

    def _follow(self, message: object) -> None:
        if not isinstance(message, SideState):
            raise MessageError("expected a state")
        self._state = message
        if not self._first.done():
            self._first.set_result(message)
        SIDE_UP.labels(self.name).set(1)
        SIDE_WAITING.labels(self.name).set(message.waiting)
        for size in message.batches:
            SIDE_BATCH.labels(self.name).observe(size)

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the side model {self.name} is being started", code=f"{self.name}_unavailable"
        )
