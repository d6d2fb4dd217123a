"""The retrieval service's door: a shared token on every path that is not listed as open.

And the file that holds it, for the service and its clients alike.
"""

import hashlib
import hmac
from collections.abc import Collection
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cache_index.errors import CacheError

MAX_TOKEN_BYTES = 4096


class TokenRequired:
    """ASGI middleware. Compares hashes, so that the time taken tells nothing about the token."""

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str]) -> None:
        self._app = app
        self._digest = digest(f"Bearer {token}".encode())
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(digest(given), self._digest):
                body = {"error": {"message": "the token is missing or wrong", "code": "token"}}
                response = JSONResponse(body, 401, {"www-authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def read_token(path: Path) -> str:
    """The token that the retrieval service was started with: the file's one line."""
    with path.open("rb") as file:
        text = file.read(MAX_TOKEN_BYTES).decode(errors="replace").strip()
    if not text or not text.isascii() or not text.isprintable():
        raise CacheError(f"{path}: expected a token of printable ASCII characters, on one line")
    return text
