"""Create a `RequestContext` (server/context.py) for each HTTP request."""

import ipaddress

from starlette.types import ASGIApp, Receive, Scope, Send

from server.context import RequestContext, entered


class ContextMiddleware:
    """Give each HTTP request a new context. Its embedding is the text-only embedding until a route
    replaces it.
    """

    def __init__(self, app: ASGIApp, text_only: bytes) -> None:
        self.app = app
        self.text_only = text_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        with entered(RequestContext(self.text_only, address=address_of(scope))):
            await self.app(scope, receive, send)


def address_of(scope: Scope) -> str:
    """Return the client's address, or "" for a Unix socket. For IPv6, returns the /64 network,
    because one client usually has all addresses of such a network.

    Behind a trusted proxy, the address is that of X-Forwarded-For, which uvicorn has read.
    """
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
