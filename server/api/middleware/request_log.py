"""Write the request log: one line of JSON for every request except health checks and /metrics.

A line contains no text, file or key of a client: it has the route's pattern instead of the path,
and a request id that `request_id.py` has checked.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.embedding.cancellation import CLIENT_DISCONNECTED
from server.api.middleware.rate_limit import UNLIMITED
from server.api.middleware.request_id import request_id
from server.api.middleware.route_path import route_path
from server.context import Timeline, current


def to_standard_output() -> Callable[[str], object]:
    """Return a function that writes to standard output.

    The function bypasses sys.stdout, because vLLM adds the process's name to every line there.
    """
    return open(1, "w", buffering=1, closefd=False).write


@dataclass(slots=True)
class Outcome:
    """Records the status of a response, and whether the response was sent completely."""

    status: int = CLIENT_DISCONNECTED  # until the response has a status
    whole: bool = False

    async def observe(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call `app`, and record the status and the end of its response."""

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.whole = True

        try:
            await app(scope, receive, observed)
        except Exception:  # the outermost handler sends this response (error_handlers.py)
            self.status = 500
            raise


class RequestLogMiddleware:
    """Log each request. Runs inside ContextMiddleware, and outside the middleware that can reject a
    request.
    """

    def __init__(self, app: ASGIApp, write: Callable[[str], object]) -> None:
        self.app = app
        self.write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in UNLIMITED:
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
    """Return the token counts that vLLM's handlers recorded, also for streams. Empty if nothing was
    generated.
    """
    metadata = scope.get("state", {}).get("request_metadata")
    usage: Any = getattr(metadata, "final_usage_info", None)
    if usage is None:
        return {}
    return {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens or 0}


def milliseconds(timeline: Timeline, started: float, ended: float) -> dict[str, float]:
    """Return the total time and the time of each stage, in milliseconds.

    A stage's time is the sum over all attachments. It may exceed `total`, because attachments are
    processed concurrently.
    """
    seconds: dict[str, float] = defaultdict(float)
    for span in timeline.spans:
        seconds[span.stage] += span.seconds
    if timeline.generating is not None:
        seconds["generate"] = ended - timeline.generating
    seconds["total"] = ended - started
    return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
