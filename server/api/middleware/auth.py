"""Check API keys. If the operator sets keys, every path except the health checks needs a key. The
operator can set a separate key for the metrics.

This middleware is plain ASGI and runs before all code that reads a body. It keeps digests of the
keys, not the keys.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import error_response
from server.api.middleware.route_path import route_path
from server.context import current
from server.errors import Unauthorized

logger = logging.getLogger(__name__)

# Seconds between two checks of the key file. A removed key stays valid for up to this time.
RELOAD_S = 1
OPEN_PATHS = frozenset({"/health", "/ready"})
METRICS_PATH = "/metrics"


class KeyFileError(ValueError):
    """Raised when the key file contains no key."""


class Keys:
    """The valid keys: keys from the command line, and keys from a file.

    Reads the file again when it changes, so that keys can be added and removed without a restart.
    Keeps the previous keys when the file is unreadable or empty.
    """

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        """Read the key file. Raises OSError, KeyFileError."""
        self._fixed = tuple(key_digest(key) for key in keys)
        self._file = file
        self._version = None if file is None else version_of(file)
        self._from_file = () if file is None else read_digests(file)
        self._checked = time.monotonic()

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return self._file is not None or bool(self._fixed)

    def find(self, key: str) -> bytes | None:
        """Return the key's digest if the key is valid, else None.

        Always compares the key with all valid keys, so that the response time reveals nothing about
        them.
        """
        self._read_again()
        digest = key_digest(key)
        valid = (*self._fixed, *self._from_file)
        matches = [secrets.compare_digest(digest, each) for each in valid]
        return digest if any(matches) else None

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
            logger.error("the previous API keys stay valid: %s", error)


class AuthMiddleware:
    def __init__(self, app: ASGIApp, keys: Keys, metrics_keys: Keys | None = None) -> None:
        """`metrics_keys`: the only keys that may read /metrics; they are invalid for other paths.
        If None, the keys in `keys` may read /metrics.
        """
        self.app = app
        self.keys = keys
        self.metrics_keys = metrics_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self.keys.required:
            # The server has no websocket routes.
            return await send({"type": "websocket.close", "code": 1008})
        path = route_path(scope) if scope["type"] == "http" else ""
        metrics = path == METRICS_PATH
        keys = self.metrics_keys if metrics and self.metrics_keys else self.keys
        if scope["type"] != "http" or not keys.required or path in OPEN_PATHS:
            return await self.app(scope, receive, send)
        digest = keys.find(key_of(Headers(scope=scope)))
        if digest is None:
            error = Unauthorized(
                "a valid API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
            )
            return await error_response(error)(scope, receive, send)
        current().key_salt = digest.hex()
        await self.app(scope, receive, send)


def key_of(headers: Headers) -> str:
    """Return the request's key: from the header Authorization, or else from Anthropic's header
    x-api-key.
    """
    if "authorization" not in headers:
        return headers.get("x-api-key", "").strip()
    scheme, _, key = headers["authorization"].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> list[str]:
    """Read the key file: one key per line. Ignores empty lines and lines that begin with #.

    Raises OSError, KeyFileError.
    """
    lines = [line.strip() for line in path.read_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise KeyFileError(f"{path}: contains no API key; write one key per line")
    return keys


def read_digests(path: Path) -> tuple[bytes, ...]:
    return tuple(key_digest(key) for key in read_keys(path))


def version_of(path: Path) -> tuple[int, int, int]:
    """Return a value that changes when the file at `path` is written or replaced."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
