"""The context of one request: its conditioning embedding, its salts and its timeline.

`api/middleware/context.py` enters a `RequestContext` for each HTTP request, and every task that the
request starts shares it by reference. A route with attachments replaces the embedding. Only
`ConditionedLLM` (engine/llm.py) calls `condition`, which hands the embedding to the engine.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from model_ext.conditioning import EXTRA_ARG, Vector, cache_salt, pack


@dataclass(frozen=True, slots=True)
class Span:
    stage: str
    modality: str  # "" for stages of the whole request
    start: float  # seconds since the epoch
    seconds: float
    failed: bool


@dataclass(slots=True)
class Timeline:
    spans: list[Span] = field(default_factory=list)
    attachments: Counter[str] = field(default_factory=Counter)  # by modality
    generating: float | None = None  # since when, by time.perf_counter

    def begin_generating(self) -> None:
        """Several prompts, choices and beams of one request begin once."""
        if self.generating is None:
            self.generating = time.perf_counter()


@dataclass(slots=True)
class RequestContext:
    embedding: bytes  # packed; the model's text-only embedding until a route replaces it
    key_salt: str = ""  # from the API key, so that clients do not share prefix-cache blocks
    timeline: Timeline = field(default_factory=Timeline)

    def condition_on(self, embedding: Vector) -> None:
        """Use this embedding (D,) for everything that the request generates."""
        self.embedding = pack(embedding)


_current: ContextVar[RequestContext] = ContextVar("bindserve_request")


class NoConditioning(RuntimeError):
    """Something tried to generate outside of a request: the server's defect, no client's."""


def current() -> RequestContext:
    try:
        return _current.get()
    except LookupError:
        raise NoConditioning("no request context: nothing says what to condition on") from None


@contextmanager
def entered(request: RequestContext) -> Iterator[None]:
    """Make `request` the current context inside the block."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def timeline() -> Timeline:
    """The request's; outside of one, what is noted is forgotten."""
    request = _current.get(None)
    return Timeline() if request is None else request.timeline


def condition(
    prompt: Mapping[str, Any], extra_args: Mapping[str, Any] | None, embedding_dim: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A rendered prompt and its extra_args, with the request's embedding and cache salt.

    Whatever a client wrote under our key is overwritten. Returns copies: beam search builds its
    next prompts from the first one, and would salt the salt.
    """
    request = current()
    if len(request.embedding) != 4 * embedding_dim:
        raise NoConditioning(
            f"the embedding has {len(request.embedding) // 4} numbers, the model {embedding_dim}"
        )
    salt = cache_salt(request.embedding, prompt.get("cache_salt") or "", request.key_salt)
    return (
        {**prompt, "cache_salt": salt},
        {**(extra_args or {}), EXTRA_ARG: request.embedding},
    )
