"""API keys: every path needs one, except the health checks. Deny by default.

Pure ASGI, in front of everything that reads a body. Keeps digests, not keys.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import respond
from server.context import current
from server.errors import Unauthorized

logger = logging.getLogger(__name__)

RELOAD_S = 1  # how long a key that was taken out of the file may still be used
OPEN_PATHS = frozenset({"/health", "/ready"})


class KeyFileError(ValueError):
    """The file of keys would leave the server open."""


class Keys:
    """All keys that are valid now. The file's are read again when it changes, so that keys come
    and go without a restart; a file that cannot be read, or holds none, changes nothing."""

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        """OSError, KeyFileError"""
        self._fixed = tuple(key_digest(key) for key in keys)
        self._file = file
        self._version = None if file is None else version_of(file)
        self._from_file = () if file is None else read_digests(file)
        self._checked = time.monotonic()

    @property
    def required(self) -> bool:
        """Without any key, everybody is let in."""
        return self._file is not None or bool(self._fixed)

    def find(self, key: str) -> bytes | None:
        """The key's digest, if it is valid. Compares with all: the time tells nothing."""
        self._read_again()
        digest = key_digest(key)
        known = [secrets.compare_digest(digest, each) for each in (*self._fixed, *self._from_file)]
        return digest if any(known) else None

    def _read_again(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._checked < RELOAD_S:
            return
        self._checked = now
        try:
            version = version_of(self._file)
            if version != self._version:
                self._version = version
                self._from_file = read_digests(self._file)
                logger.info("%s changed: %d keys", self._file, len(self._from_file))
        except (OSError, ValueError) as error:
            logger.error("the keys stay as they were: %s", error)


class AuthMiddleware:
    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self.keys.required:
            return await send({"type": "websocket.close", "code": 1008})  # no route takes one
        if scope["type"] != "http" or not self.keys.required or scope["path"] in OPEN_PATHS:
            return await self.app(scope, receive, send)
        digest = self.keys.find(bearer(Headers(scope=scope)))
        if digest is None:
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


def read_digests(path: Path) -> tuple[bytes, ...]:
    return tuple(key_digest(key) for key in read_keys(path))


def version_of(path: Path) -> tuple[int, int, int]:
    """Differs when the file was written to, or replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
