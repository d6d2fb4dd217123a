"""A bound on request bodies, before anything parses them.

Pure ASGI. A declared length is refused at once; what comes without one, or lies, is counted.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.error_handlers import respond
from server.errors import BadRequest, RequestError, TooLarge


class BodyLimitMiddleware:
    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "0")
        if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
            return await respond(BadRequest("Content-Length is not a number"))(scope, receive, send)
        if int(declared) > self.max_bytes:
            return await respond(self._error())(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._error()  # inside the route: `error_handlers.py` answers
            return message

        await self.app(scope, counted, send)

    def _error(self) -> RequestError:
        return TooLarge(f"the request is larger than {self.max_bytes} bytes")
