"""What all requests together may hold in memory: beyond it, the next one is refused, not killed."""

import asyncio
from typing import Any

import pytest

from server.api.middleware.body_limit import BodyLimitMiddleware
from server.errors import Unavailable

CHAT, UPLOAD = "/v1/chat/completions", "/v1/files"
FORM = [(b"content-type", b"multipart/form-data; boundary=x")]


class House:
    """Reads a body of 400 bytes, in two parts, and keeps it until it may go; 1,000 fit in."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.door = BodyLimitMiddleware(
            self.app,
            max_bytes=500,
            max_held_bytes=1000,
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
        await self.door(scope, receive, receive)


async def test_bodies_of_all_requests_are_bounded_together() -> None:
    house = House()
    inside = [asyncio.ensure_future(house.ask()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many bytes"):
        await house.ask()
    assert house.door.held == 800  # what the refused one held is free again
    uploads = [asyncio.ensure_future(house.ask(UPLOAD, FORM)) for _ in range(9)]  # are on disk
    await asyncio.sleep(0)
    assert house.door.held == 800
    inside[0].cancel()
    await asyncio.gather(*inside[:1], return_exceptions=True)
    again = asyncio.ensure_future(house.ask())
    house.go.set()
    await asyncio.gather(inside[1], again, *uploads)
    assert house.door.held == 0
