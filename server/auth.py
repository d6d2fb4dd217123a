"""API keys: every path needs one, except the health checks. Deny by default.

Pure ASGI, in front of everything that reads a body. Keeps digests, not keys.
"""

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.context import current
from server.error_handlers import respond
from server.errors import Unauthorized

OPEN_PATHS = frozenset({"/health", "/ready"})


class KeyFileError(ValueError):
    """The file of keys would leave the server open."""


class AuthMiddleware:
    def __init__(self, app: ASGIApp, digests: Iterable[bytes]) -> None:
        """Without digests, everybody is let in."""
        self.app = app
        self.digests = tuple(digests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self.digests:
            return await send({"type": "websocket.close", "code": 1008})  # no route takes one
        if scope["type"] != "http" or not self.digests or scope["path"] in OPEN_PATHS:
            return await self.app(scope, receive, send)
        digest = key_digest(bearer(Headers(scope=scope)))
        known = [secrets.compare_digest(digest, each) for each in self.digests]
        if not any(known):  # all were compared: the time tells nothing
            error = Unauthorized("a valid API key is needed: Authorization: Bearer KEY")
            return await respond(error)(scope, receive, send)
        current().key_salt = digest.hex()
        await self.app(scope, receive, send)


def bearer(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> list[str]:
    """One key a line; empty lines and lines that begin with # do not count. OSError,
    KeyFileError."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise KeyFileError(f"{path}: holds no API key")
    return keys
