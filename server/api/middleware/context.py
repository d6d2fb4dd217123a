"""Enters a `RequestContext` for each HTTP request (server/context.py)."""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.context import RequestContext, entered


class ContextMiddleware:
    """Starts every HTTP request with the packed text-only embedding."""

    def __init__(self, app: ASGIApp, text_only: bytes) -> None:
        self.app = app
        self.text_only = text_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        with entered(RequestContext(self.text_only)):
            await self.app(scope, receive, send)
