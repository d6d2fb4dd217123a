"""The request log: one line of JSON for every request except health checks and /metrics.

Contains no text, file or key of a client: the route is its pattern, and `request_id.py` has checked
the request id.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.middleware.rate_limit import UNLIMITED
from server.api.middleware.request_id import request_id
from server.context import Timeline, current

CLIENT_DISCONNECTED = 499  # before the response had a status


def to_standard_output() -> Callable[[str], object]:
    """A function that writes to standard output.

    Bypasses sys.stdout, where vLLM adds the process's name to every line.
    """
    return open(1, "w", buffering=1, closefd=False).write


@dataclass(slots=True)
class Outcome:
    """A response's status, and whether it was sent completely."""

    status: int = CLIENT_DISCONNECTED
    whole: bool = False

    async def observe(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call `app`, and record the outcome of its response."""

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.whole = True

        try:
            await app(scope, receive, observed)
        except Exception:  # an outer handler responds, see error_handlers.py
            self.status = 500
            raise


class RequestLogMiddleware:
    """Inside of ContextMiddleware, outside of the middleware that can reject a request."""

    def __init__(self, app: ASGIApp, write: Callable[[str], object]) -> None:
        self.app = app
        self.write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            return await self.app(scope, receive, send)
        at, started, outcome = datetime.now(UTC), time.perf_counter(), Outcome()
        try:
            await outcome.observe(self.app, scope, receive, send)
        finally:
            line = {
                "time": at.isoformat(timespec="milliseconds"),
                "request_id": request_id(scope),
                "method": scope["method"],
                "route": route(scope),
                "status": outcome.status,
                "whole": outcome.whole,
                "attachments": dict(current().timeline.attachments),
                "tokens": tokens(scope),
                "ms": milliseconds(current().timeline, started, time.perf_counter()),
            }
            self.write(json.dumps(line) + "\n")


def route(scope: Scope) -> str | None:
    """The route's pattern, e.g. /v1/files/{file_id}, or None when no route matched."""
    return getattr(scope.get("route"), "path", None)


def tokens(scope: Scope) -> dict[str, int]:
    """The token counts of vLLM's handlers, including streams. Empty without generation."""
    metadata = scope.get("state", {}).get("request_metadata")
    usage: Any = getattr(metadata, "final_usage_info", None)
    if usage is None:
        return {}
    return {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens or 0}


def milliseconds(timeline: Timeline, started: float, ended: float) -> dict[str, float]:
    """The duration of each stage, summed over attachments, which run concurrently: a sum may
    exceed `total`."""
    seconds: dict[str, float] = defaultdict(float)
    for span in timeline.spans:
        seconds[span.stage] += span.seconds
    if timeline.generating is not None:
        seconds["generate"] = ended - timeline.generating
    seconds["total"] = ended - started
    return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
