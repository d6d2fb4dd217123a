"""Requests with too many or too large headers, sent through real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from server.api.limits.headers import limited_protocol
from server.settings import Settings

MAX_BYTES, MAX_COUNT = 1 << 16, 100
LIMITS = Settings(model=Path(), max_header_bytes=MAX_BYTES, max_header_count=MAX_COUNT)
MiB = 1 << 20


class App:
    def __init__(self) -> None:
        self.bodies: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.bodies.append(size)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


class Running:
    def __init__(self, port: int, app: App) -> None:
        self.port, self.app = port, app

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send `pieces`, and return what the server sends until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def send() -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        async with asyncio.timeout(30):
            response = await reader.read()
            with contextlib.suppress(ConnectionError):
                await sending
        writer.close()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    app = App()
    config = uvicorn.Config(
        app,
        port=0,
        http=limited_protocol(LIMITS),
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield Running(server.servers[0].sockets[0].getsockname()[1], app)
    server.should_exit = True
    await task


def head(*headers: bytes, path: bytes = b"/", method: bytes = b"GET") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: x", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def check_rejected(response: bytes, words: str) -> None:
    status, _, content = response.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 431 ")
    error = json.loads(content)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "headers_too_large")
    assert words in error["message"]


TOO_LARGE = {
    "one value": [b"X: " + b"x" * MiB],
    "one name": [b"x" * MiB + b": x"],
    "just above": [b"X: " + b"x" * MAX_BYTES],
    "many": [b"X-%d: %s" % (i, b"x" * 20_000) for i in range(50)],
}


@pytest.mark.parametrize("headers", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_too_large_headers(server: Running, headers: list[bytes]) -> None:
    check_rejected(await server.exchange(head(*headers)), "larger than 65536 bytes")
    assert not server.app.bodies
    assert b"200 OK" in await server.exchange(head(b"Connection: close"))


async def test_headers_without_an_end(server: Running) -> None:
    pieces = [b"GET / HTTP/1.1\r\nX: ", *[b"x" * 10_000] * 100]
    check_rejected(await server.exchange(*pieces), "larger")


async def test_a_long_url(server: Running) -> None:
    check_rejected(await server.exchange(head(path=b"/" + b"x" * MAX_BYTES)), "larger")


async def test_too_many_headers(server: Running) -> None:
    # The headers Host and Connection are sent after these.
    most = [b"X-%d: x" % i for i in range(MAX_COUNT - 2)]
    assert b"200 OK" in await server.exchange(head(*most, b"Connection: close"))
    response = await server.exchange(head(*most, b"A: x", b"B: x"))
    check_rejected(response, "more than 100 headers")


async def test_large_headers_within_the_limit(server: Running) -> None:
    large = b"X: " + b"x" * (MAX_BYTES - 200)
    assert b"200 OK" in await server.exchange(head(large, b"Connection: close"))


async def test_bodies_do_not_count(server: Running) -> None:
    length = b"Content-Length: %d" % MiB
    first = head(length, method=b"POST") + b"x" * MiB
    last = head(length, b"Connection: close", method=b"POST") + b"x" * MiB
    # The headers of the second request are in the same packet as the first body's end.
    response = await server.exchange(first + last)
    assert response.count(b"200 OK") == 2
    assert server.app.bodies == [MiB, MiB]
    chunks = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(256)) + b"0\r\n\r\n"
    chunked = head(b"Transfer-Encoding: chunked", b"Connection: close", method=b"POST")
    assert b"200 OK" in await server.exchange(chunked + chunks)
    assert server.app.bodies[-1] == MiB


@pytest.mark.parametrize(
    "rest", [b"0\r\nX: " + b"x" * MiB, b"1;" + b"x" * MiB, b"0\r\n" + b"X: x\r\n" * 1000]
)
async def test_trailers_and_chunk_extensions_close_the_connection(
    server: Running, rest: bytes
) -> None:
    request = head(b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nx\r\n"
    with contextlib.suppress(ConnectionError):
        assert b"200 OK" not in await server.exchange(request, rest)
    assert not server.app.bodies


async def test_an_invalid_request_is_rejected_as_before(server: Running) -> None:
    assert (await server.exchange(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
