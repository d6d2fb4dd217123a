"""Create a `RequestContext` (server/context.py) for each HTTP request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.context import RequestContext, entered


class ContextMiddleware:
    """Start every HTTP request with the model's embedding for requests without attachments."""

    def __init__(self, app: ASGIApp, text_only: bytes) -> None:
        self.app = app
        self.text_only = text_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        with entered(RequestContext(self.text_only)):
            await self.app(scope, receive, send)
