"""Several clients take turns with their requests: when a request starts, and when its body is
complete.
"""

import asyncio
from typing import Any

from server.api.limits.turns import TurnMiddleware
from server.context import RequestContext, client, entered
from server.fairness.turns import Turns


async def test_requests_start_and_read_their_bodies_in_turn() -> None:
    starts, bodies = "", ""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        nonlocal starts, bodies
        starts += client()
        message: Any = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
        bodies += client()
        assert (await receive())["type"] == "http.disconnect"

    middleware = TurnMiddleware(app, Turns())

    async def request(address: str) -> None:
        messages = [
            {"type": "http.request", "body": b"x", "more_body": True},
            {"type": "http.request", "body": b"y"},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        with entered(RequestContext(b"", address=address)):
            await middleware({"type": "http"}, receive, receive)

    await asyncio.gather(*(request(address) for address in "aaaaab"))
    assert starts == "abaaaa"
    assert bodies.index("b") <= 2
    assert len(bodies) == 6
