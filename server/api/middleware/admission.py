"""Limit concurrent requests: reject excess requests before reading their bodies.

A rejection must be cheap even under three times the load that the server can handle, so this is
plain ASGI. A request counts from its start to the end of its response.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import error_response
from server.errors import Unavailable
from server.metrics import REFUSED

# The paths that use the encoders or the engine.
PATHS = frozenset(
    f"/v1/{name}"
    for name in (
        *("chat/completions", "completions", "responses", "messages"),
        *("embeddings", "score", "rerank", "search"),
    )
) | {"/vectorize"}


class AdmissionMiddleware:
    def __init__(self, app: ASGIApp, max_requests: int) -> None:
        self.app = app
        self.max_requests = max_requests
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            return await self.app(scope, receive, send)
        if self.running >= self.max_requests:
            REFUSED.inc()
            message = f"more than {self.max_requests} requests at a time"
            error = Unavailable(message, code="server_full")
            return await error_response(error)(scope, receive, send)
        self.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running -= 1
