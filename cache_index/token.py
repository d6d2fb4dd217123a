"""The token that the retrieval service shares with its clients: read it from a file, and check it
in each request.
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
    """ASGI middleware. Requires the token on every path except `open_paths`. Compares hashes of
    tokens, so that the time of a comparison does not reveal the token.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Collection[str]) -> None:
        self._app = app
        self._digest = digest(f"Bearer {token}".encode())
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            header = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(digest(header), self._digest):
                body = {"error": {"message": "the token is missing or wrong", "code": "token"}}
                response = JSONResponse(body, 401, {"www-authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def read_token(path: Path) -> str:
    """Read the token, which is the file's only line. Raises CacheError: when the token is empty or
    not printable ASCII.
    """
    with path.open("rb") as file:
        text = file.read(MAX_TOKEN_BYTES).decode(errors="replace").strip()
    if not text or not text.isascii() or not text.isprintable():
        raise CacheError(f"{path}: expected a token of printable ASCII characters, on one line")
    return text
