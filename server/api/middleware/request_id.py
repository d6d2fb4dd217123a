"""X-Request-Id: every answer has one, errors too, and vLLM's log lines have the same.

A client's own is kept if it is short and plain, else replaced: it ends up in logs.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
PLAIN = re.compile("[0-9A-Za-z_.-]{1,64}")


def request_id(scope: Scope) -> str:
    """Inside of the middleware: what the answer will have."""
    return Headers(scope=scope).get(HEADER, "")


class RequestIdMiddleware:
    """Outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = MutableHeaders(raw=list(scope["headers"]))
        given = headers.get(HEADER, "")
        name = given if PLAIN.fullmatch(given) else secrets.token_hex(16)
        headers[HEADER] = name

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers", ()))
                MutableHeaders(raw=message["headers"])[HEADER] = name
            await send(message)

        await self.app({**scope, "headers": headers.raw}, receive, named)
