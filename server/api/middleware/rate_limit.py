"""Limits for each API key: requests a minute, and requests at a time. 429 says when to come back.

Pure ASGI, behind the keys, which bound how many counters there are. One process counts for itself.
"""

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import respond
from server.api.middleware.auth import OPEN_PATHS
from server.context import current
from server.errors import RETRY_AFTER_S, TooManyRequests

UNLIMITED = OPEN_PATHS | {"/metrics"}


@dataclass(slots=True)
class Counter:
    """A bucket of requests, filled steadily up to one minute's."""

    tokens: float
    filled: float = field(default_factory=time.monotonic)
    running: int = 0

    def wait_s(self, per_minute: int) -> float:
        """Take a token and return 0, or the seconds until there is one."""
        now = time.monotonic()
        self.tokens = min(per_minute, self.tokens + (now - self.filled) * per_minute / 60)
        self.filled = now
        if self.tokens < 1:
            return (1 - self.tokens) * 60 / per_minute
        self.tokens -= 1
        return 0


class RateLimitMiddleware:
    def __init__(self, app: ASGIApp, per_minute: int, concurrent: int) -> None:
        """0: no limit."""
        self.app = app
        self.per_minute = per_minute
        self.concurrent = concurrent
        self.counters: dict[str, Counter] = defaultdict(lambda: Counter(per_minute))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            return await self.app(scope, receive, send)
        counter = self.counters[current().key_salt]
        if self.concurrent and counter.running >= self.concurrent:
            message = f"more than {self.concurrent} requests at a time"
            return await refuse(message, RETRY_AFTER_S)(scope, receive, send)
        if self.per_minute and (wait := counter.wait_s(self.per_minute)):
            message = f"more than {self.per_minute} requests a minute"
            return await refuse(message, math.ceil(wait))(scope, receive, send)
        counter.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            counter.running -= 1


def refuse(message: str, seconds: int) -> ASGIApp:
    error = TooManyRequests(f"{message} with this API key", code="rate_limit_exceeded")
    return respond(error, {"Retry-After": str(seconds)})
