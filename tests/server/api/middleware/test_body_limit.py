"""The limit of the total size of all request bodies in memory."""

import asyncio
from typing import Any

import pytest

from server.api.middleware.body_limit import BodyLimitMiddleware
from server.context import RequestContext, entered
from server.errors import Unavailable
from server.fairness.share import FairShare

CHAT, UPLOAD = "/v1/chat/completions", "/v1/files"
FORM = [(b"content-type", b"multipart/form-data; boundary=x")]


class LimitedApp:
    """An application that reads request bodies of 400 bytes and keeps them until `go` is set.

    A body arrives in two messages. The limit of all bodies together is 1,500 bytes, of which one
    client can have 800.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.middleware = BodyLimitMiddleware(
            self.app,
            max_bytes=500,
            held=FairShare(1500),
            upload_paths={UPLOAD},
            max_upload_bytes=500,
        )

    async def app(self, _scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await receive()
        await self.go.wait()

    async def ask(self, path: str = CHAT, headers: Any = ()) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": bytes(200), "more_body": True}

        scope = {"type": "http", "path": path, "method": "POST", "headers": list(headers)}
        await self.middleware(scope, receive, receive)


async def test_bodies_of_all_requests_are_bounded_together() -> None:
    limited = LimitedApp()
    inside = [asyncio.ensure_future(limited.ask()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many bytes in memory"):
        await limited.ask()
    # The bytes of the rejected request are no longer counted.
    assert limited.middleware.held.used == 800
    with entered(RequestContext(b"", address="2.2.2.2")):
        other = asyncio.ensure_future(limited.ask())
        await asyncio.sleep(0)
        assert limited.middleware.held.used == 1200
        with pytest.raises(Unavailable, match="too many bytes in memory"):
            await limited.ask()  # The limit of all clients is reached.
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    # Multipart uploads do not count, because they are written to disk.
    uploads = [asyncio.ensure_future(limited.ask(UPLOAD, FORM)) for _ in range(9)]
    await asyncio.sleep(0)
    assert limited.middleware.held.used == 800
    inside[0].cancel()
    await asyncio.gather(*inside[:1], return_exceptions=True)
    again = asyncio.ensure_future(limited.ask())
    limited.go.set()
    await asyncio.gather(inside[1], again, *uploads)
    assert limited.middleware.held.used == 0
