"""A bound on the requests in the house: what is too much is refused before its body is read.

Pure ASGI. Refusing must cost next to nothing, or a server that is asked for three times what it can
do is busy with refusing. Counts those that wait or run anywhere: decoding, encoding, generating.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import respond
from server.errors import Unavailable
from server.metrics import REFUSED

# What makes work for encoders or the engine.
PATHS = frozenset(
    f"/v1/{name}"
    for name in ("chat/completions", "completions", "responses", "messages", "embeddings")
)


class AdmissionMiddleware:
    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            return await self.app(scope, receive, send)
        if self.running >= self.most:
            REFUSED.inc()
            error = Unavailable(f"more than {self.most} requests at a time", code="server_full")
            return await respond(error)(scope, receive, send)
        self.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.running -= 1
