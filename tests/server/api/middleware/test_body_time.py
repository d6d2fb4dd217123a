"""The time limits for request bodies that arrive slowly."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from server.api.middleware import body_time
from server.api.middleware.body_time import BodyTimeMiddleware
from server.errors import RequestTimeout

SCOPE = {"type": "http", "path": "/", "method": "POST", "headers": []}


async def read(pieces: Sequence[Any], **limits: Any) -> int:
    """Read a body through the middleware. A number in `pieces` is a pause in seconds."""
    total, remaining = 0, list(pieces)

    async def receive() -> Any:
        while remaining and not isinstance(remaining[0], bytes):
            await asyncio.sleep(remaining.pop(0))
        piece = remaining.pop(0) if remaining else b""
        return {"type": "http.request", "body": piece, "more_body": bool(remaining)}

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        nonlocal total
        more = True
        while more:
            message = await receive()
            total += len(message["body"])
            more = message["more_body"]
        await receive()  # wait until the client disconnects: no time limit applies

    await BodyTimeMiddleware(app, **limits)(SCOPE, receive, receive)
    return total


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_time, "GRACE_S", 0.05)


async def test_bytes_that_drip_are_rejected() -> None:
    with pytest.raises(RequestTimeout) as caught:
        await read([b"x", 0.03] * 9, min_rate=1000, max_s=60)
    assert (caught.value.status, caught.value.code) == (408, "request_timeout")


async def test_a_body_of_the_minimum_rate_is_accepted() -> None:
    pieces = [b"x" * 100_000, 0.06, b"x" * 10, 0.001, b"x"]
    assert await read(pieces, min_rate=1000, max_s=60) == 100_011


async def test_the_duration_of_a_body_is_bounded() -> None:
    with pytest.raises(RequestTimeout):
        await read([b"x" * 100_000, 0.05] * 9, min_rate=1, max_s=0.1)


async def test_the_time_after_the_body_does_not_count() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await receive()

    messages = [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        await asyncio.sleep(0 if len(messages) == 2 else 0.1)
        return messages.pop(0)

    await BodyTimeMiddleware(app, min_rate=1, max_s=0.05)(SCOPE, receive, receive)
    assert not messages
