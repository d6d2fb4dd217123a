"""Add the header X-Request-Id to every response, including errors.

vLLM's log lines contain the same id. If the client sends an id of at most 64 letters, digits, `_`,
`.` or `-`, the response repeats it. Any other id is replaced, because the id is written to logs.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
PLAIN = re.compile("[0-9A-Za-z_.-]{1,64}")


def request_id(scope: Scope) -> str:
    """Return the id of the request. Only code that runs inside this middleware can call this
    function.
    """
    return Headers(scope=scope).get(HEADER, "")


class RequestIdMiddleware:
    """Adds the header X-Request-Id to every response. It must be the outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = MutableHeaders(raw=list(scope["headers"]))
        client_id = headers.get(HEADER, "")
        headers[HEADER] = client_id if PLAIN.fullmatch(client_id) else secrets.token_hex(16)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers", ()))
                MutableHeaders(raw=message["headers"])[HEADER] = headers[HEADER]
            await send(message)

        await self.app({**scope, "headers": headers.raw}, receive, send_with_id)
