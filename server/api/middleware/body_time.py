"""Limit the time in which a request's body arrives: a minimum rate, and a maximum duration.

This is plain ASGI. Only the time in which the server waits for the client counts.
"""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import RequestTimeout

GRACE_S = 10  # Seconds before the minimum rate applies.


class BodyTimeMiddleware:
    def __init__(self, app: ASGIApp, min_rate: int, max_s: float) -> None:
        """`min_rate`: bytes per second. `max_s`: seconds for one body."""
        self.app = app
        self.min_rate = min_rate
        self.max_s = max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        received, waited, complete = 0, 0.0, False

        async def timed() -> Message:
            nonlocal received, waited, complete
            if complete:  # the next message can only report a disconnection
                return await receive()
            allowed = min(self.max_s, GRACE_S + received / self.min_rate)
            started = time.monotonic()
            try:
                async with asyncio.timeout(max(allowed - waited, 0)):
                    message = await receive()
            except TimeoutError:
                # The exception is raised inside the route, so that `error_handlers.py` responds.
                raise RequestTimeout("the request's body arrives too slowly") from None
            waited += time.monotonic() - started
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, timed, send)
