"""Limit the requests per minute and the concurrent requests of each API key.

A request above a limit gets status 429; its Retry-After header states when the next request is
allowed. This is plain ASGI and runs after AuthMiddleware, so that only valid keys create counters.
Every API process counts separately.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.error_handlers import error_response
from server.api.middleware.auth import METRICS_PATH, OPEN_PATHS
from server.api.middleware.route_path import route_path
from server.context import current
from server.errors import RETRY_AFTER_S, TooManyRequests

UNLIMITED = OPEN_PATHS | {METRICS_PATH}


@dataclass(slots=True)
class KeyUsage:
    """Counts the requests of one API key with a token bucket. The bucket holds at most the tokens
    of one minute.
    """

    tokens: float
    filled: float = field(default_factory=time.monotonic)
    running: int = 0

    def wait_s(self, per_minute: int, kept: float = 0) -> float:
        """Take a token and return 0, or return the seconds until a token is available. `kept`:
        the number of tokens that this request must leave for others.
        """
        now = time.monotonic()
        self.tokens = min(per_minute, self.tokens + (now - self.filled) * per_minute / 60)
        self.filled = now
        needed = min(1 + kept, per_minute)  # the bucket holds at most `per_minute`
        if self.tokens < needed:
            return (needed - self.tokens) * 60 / per_minute
        self.tokens -= 1
        return 0


def new_usage(per_minute: int) -> dict[str, KeyUsage]:
    """The usage of all keys. A key that is not in it gets a full bucket."""
    return defaultdict(lambda: KeyUsage(per_minute))


class RateLimitMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        per_minute: int,
        concurrent: int,
        usage: dict[str, KeyUsage] | None = None,
        is_open: Callable[[str], bool] = UNLIMITED.__contains__,
    ) -> None:
        """`per_minute`, `concurrent`: the limits for one key; 0 means no limit. `usage`: the usage
        of all keys, in which a request may count its further requests to the engine. `is_open`:
        whether a path needs no key, and has no limit.
        """
        self.app = app
        self.is_open = is_open
        self.per_minute = per_minute
        self.concurrent = concurrent
        self.usage = new_usage(per_minute) if usage is None else usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope) if scope["type"] == "http" else METRICS_PATH
        if path in UNLIMITED or self.is_open(path):
            return await self.app(scope, receive, send)
        usage = self.usage[current().key_salt]
        # The requests of the key's batches leave half of the limits for its other requests.
        share = 0.5 if current().batch else 0
        if self.concurrent and usage.running >= max(1, self.concurrent * (1 - share)):
            message = f"more than {self.concurrent} requests at a time"
            return await rejection(message, RETRY_AFTER_S)(scope, receive, send)
        if self.per_minute and (wait := usage.wait_s(self.per_minute, share * self.per_minute)):
            message = f"more than {self.per_minute} requests a minute"
            return await rejection(message, math.ceil(wait))(scope, receive, send)
        usage.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            usage.running -= 1


def rejection(message: str, seconds: int) -> ASGIApp:
    error = TooManyRequests(f"{message} with this API key", code="rate_limit_exceeded")
    return error_response(error, {"Retry-After": str(seconds)})
