"""Bounds on request bodies, of each and of all together, before anything parses them.

Pure ASGI. A declared length is refused at once; what comes without one, or lies, is counted. Paths
that write what they receive to disk have a bound of their own, and hold nothing in memory.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.error_handlers import respond
from server.errors import BadRequest, RequestError, TooLarge, Unavailable


class BodyLimitMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_held_bytes: int,
        upload_paths: Collection[str],
        max_upload_bytes: int,
    ) -> None:
        """`upload_paths` may get `max_upload_bytes`, as multipart/form-data."""
        self.app = app
        self.max_bytes = max_bytes
        self.max_held_bytes = max_held_bytes
        self.held = 0  # bytes of the bodies of all requests that are not answered yet
        self.upload_paths = frozenset(upload_paths)
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        upload = is_form and scope["path"] in self.upload_paths
        most = self.max_upload_bytes if upload else self.max_bytes
        declared = headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
            return await respond(BadRequest("Content-Length is not a number"))(scope, receive, send)
        if int(declared) > most:
            return await respond(too_large(most))(scope, receive, send)
        received = held = 0

        async def counted() -> Message:
            nonlocal received, held
            message = await receive()
            came = len(message.get("body", b""))
            received += came
            if received > most:
                raise too_large(most)  # inside the route: `error_handlers.py` answers
            if not upload:
                if self.held + came > self.max_held_bytes:
                    raise Unavailable("too many bytes of requests at a time", code="server_full")
                self.held += came
                held += came
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self.held -= held


def too_large(most: int) -> RequestError:
    return TooLarge(f"the request is larger than {most} bytes")
