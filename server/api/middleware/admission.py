"""Limit the concurrent requests of all clients together and of each client.

The middleware rejects excess requests before reading their bodies.

This is plain ASGI, so that a rejection stays cheap under three times the load that the server can
handle. A request counts from its start to the end of its response.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import error_response
from server.api.middleware.route_path import route_path
from server.context import client
from server.errors import Unavailable
from server.fairness.share import FairShare
from server.metrics import REFUSED

# The paths that use the encoders or the engine.
PATHS = frozenset(
    f"/v1/{name}"
    for name in (
        *("chat/completions", "completions", "responses", "messages"),
        *("embeddings", "score", "rerank", "search", "detections", "images/generations"),
        *("audio/transcriptions", "audio/translations", "audio/speech"),
    )
) | {"/vectorize"}


class AdmissionMiddleware:
    def __init__(self, app: ASGIApp, running: FairShare) -> None:
        """`running`: the requests that run. All applications of the process share this object."""
        self.app = app
        self.running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) not in PATHS:
            return await self.app(scope, receive, send)
        if not self.running.take(caller := client()):
            REFUSED.inc()
            error = Unavailable("too many requests at a time", code="server_full")
            return await error_response(error)(scope, receive, send)
        try:
            await self.app(scope, receive, send)
        finally:
            self.running.give_back(caller)
