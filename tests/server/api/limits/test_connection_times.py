"""Slow clients on real sockets: a client that never ends its headers, and a client that does not
read its response.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from prometheus_client import REGISTRY

from server.api.limits.headers import limited_protocol
from server.settings import Settings
from tests.server.waiting import until

MiB = 1 << 20
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class App:
    """Responds with `size` bytes in messages of `piece` bytes, and records how the response
    ended.
    """

    def __init__(self, size: int, piece: int = MiB) -> None:
        self.size, self.piece = size, piece
        self.disconnected = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        headers = [(b"content-length", b"%d" % self.size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for begin in range(0, self.size, self.piece):
            piece = bytes(min(self.piece, self.size - begin))
            more = begin + self.piece < self.size
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected = True


@asynccontextmanager
async def running(app: App, **limits: float) -> AsyncIterator[int]:
    settings = Settings(model=Path(), **limits)  # type: ignore[arg-type]
    config = uvicorn.Config(
        *(app,), port=0, http=limited_protocol(settings), lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = server.force_exit = True
    await task


def rejections(code: str) -> float:
    return REGISTRY.get_sample_value("bindserve_rejections_total", {"code": code}) or 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", b""), (b"\r\n", b""), (b"GE", b"HTTP/1.1 408"), (GET + b"X: y\r\n", b"HTTP/1.1 408")],
)
async def test_headers_must_be_complete_in_time(sent: bytes, status: bytes) -> None:
    before = rejections("request_timeout")
    async with running(App(2), header_timeout_s=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(30):
            response = await reader.read()
        writer.close()
    assert response[: len(status)] == status
    assert bool(response) == bool(status)
    assert rejections("request_timeout") - before == bool(status)


async def test_the_time_begins_anew_with_each_request() -> None:
    async with running(App(2), header_timeout_s=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            await asyncio.sleep(0.6)
            writer.write(GET + b"\r\n")
            assert (await reader.readuntil(b"\0\0")).startswith(b"HTTP/1.1 200")
        writer.write(GET)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize(
    "size",
    [pytest.param(64 * MiB, id="the route waits"), pytest.param(6 * MiB, id="the route is done")],
)
async def test_a_client_that_does_not_read_is_disconnected(size: int) -> None:
    app, before = App(size), rejections("slow_reader")
    async with running(app, send_timeout_s=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(GET + b"\r\n")
        await until(lambda: app.disconnected)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(size + 1000)
        writer.close()
    assert rejections("slow_reader") == before + 1


async def test_a_slow_but_steady_reader_gets_everything() -> None:
    app = App(8 * MiB)
    async with running(app, send_timeout_s=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(GET + b"Connection: close\r\n\r\n")
        received = 0
        while piece := await reader.read(1 << 16):
            received += len(piece)
            await asyncio.sleep(0.02)  # so that reading all 128 pieces takes longer than the limit
        writer.close()
    assert received > 8 * MiB


async def test_a_slow_but_steady_reader_gets_a_body_of_one_message() -> None:
    """The transport's buffer holds the body for longer than the limit, so its low-water mark does
    not show that the client reads.
    """
    app = App(32 * MiB, piece=32 * MiB)
    async with running(app, send_timeout_s=0.25) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(GET + b"Connection: close\r\n\r\n")
        received = 0
        while piece := await reader.read(1 << 17):
            received += len(piece)
            await asyncio.sleep(0.005)
        writer.close()
    assert received > 32 * MiB
