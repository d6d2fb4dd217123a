"""The request log: one line of JSON for every request. Numbers, and names of ours, only.

No text, file or key of a client is in it: a route stands as its pattern, a client's own request id
is plain (request_id.py). Health checks and scrapes of metrics are left out.
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

CLIENT_LEFT = 499  # before there was a status


def to_standard_output() -> Callable[[str], object]:
    """Past vLLM, which puts the process's name before every line of sys.stdout."""
    return open(1, "w", buffering=1, closefd=False).write


@dataclass(slots=True)
class Outcome:
    """What becomes of an answer."""

    status: int = CLIENT_LEFT
    whole: bool = False  # it was sent to its end

    async def of(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer, and look on."""

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.whole = True

        try:
            await app(scope, receive, seen)
        except Exception:  # answered further out, see error_handlers.py
            self.status = 500
            raise


class RequestLogMiddleware:
    """Inside of the context, outside of whatever may refuse."""

    def __init__(self, app: ASGIApp, write: Callable[[str], object]) -> None:
        self.app = app
        self.write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            return await self.app(scope, receive, send)
        at, started, outcome = datetime.now(UTC), time.perf_counter(), Outcome()
        try:
            await outcome.of(self.app, scope, receive, send)
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
    """The pattern, e.g. /v1/files/{file_id}; None where no route was reached."""
    return getattr(scope.get("route"), "path", None)


def tokens(scope: Scope) -> dict[str, int]:
    """As vLLM's handlers count them, streams too; nothing where nothing was generated."""
    metadata = scope.get("state", {}).get("request_metadata")
    usage: Any = getattr(metadata, "final_usage_info", None)
    if usage is None:
        return {}
    return {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens or 0}


def milliseconds(timeline: Timeline, started: float, ended: float) -> dict[str, float]:
    """Of each stage, summed over attachments: they run side by side, so it may exceed `total`."""
    seconds: dict[str, float] = defaultdict(float)
    for span in timeline.spans:
        seconds[span.stage] += span.seconds
    if timeline.generating is not None:
        seconds["generate"] = ended - timeline.generating
    seconds["total"] = ended - started
    return {stage: round(value * 1000, 3) for stage, value in seconds.items()}
