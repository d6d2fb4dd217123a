"""Limit the size of each request body, and the bytes of bodies in memory, in total and per client.

The middleware rejects a Content-Length above the limit at once, and also counts the received bytes.
Multipart uploads are written to disk; they have a separate limit and do not count as memory.
"""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.error_handlers import error_response
from server.api.middleware.route_path import route_path
from server.context import client
from server.errors import BadRequest, RequestError, TooLarge, Unavailable
from server.fairness.share import FairShare


class BodyLimitMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        held: FairShare,
        upload_paths: Collection[str],
        max_upload_bytes: int,
    ) -> None:
        """`held`: the bytes of the bodies of all running requests. All applications of the process
        share this object. Requests of type multipart/form-data to `upload_paths` may have up to
        `max_upload_bytes`.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.held = held
        self.upload_paths = frozenset(upload_paths)
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        upload = is_form and route_path(scope) in self.upload_paths
        max_bytes = self.max_upload_bytes if upload else self.max_bytes
        declared = headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
            error = BadRequest("Content-Length is not a number")
            return await error_response(error)(scope, receive, send)
        if int(declared) > max_bytes:
            return await error_response(too_large(max_bytes))(scope, receive, send)
        received = held = 0
        caller = client()

        async def counted() -> Message:
            nonlocal received, held
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            if received > max_bytes:
                # The exception is raised inside the route, so that `error_handlers.py` responds.
                raise too_large(max_bytes)
            if not upload:
                if size and not self.held.take(caller, size):
                    raise Unavailable(
                        "the running requests have too many bytes in memory; try again later",
                        code="server_full",
                    )
                held += size
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self.held.give_back(caller, held)


def too_large(max_bytes: int) -> RequestError:
    return TooLarge(f"the request is larger than {max_bytes} bytes")
