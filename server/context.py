"""The context of one request: its conditioning embedding, its salts and its timeline.

`api/middleware/context.py` enters a `RequestContext` for each HTTP request, and every task that the
request starts shares it by reference. A route with attachments replaces the embedding. Only
`ConditionedLLM` (engine/llm.py) calls `engine_inputs`, which adds the embedding to the engine's
inputs.
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
    generating: float | None = None  # time.perf_counter at the first call to the engine

    def begin_generating(self) -> None:
        """Record the start of generation; only a request's first prompt, choice or beam counts."""
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
    """A defect of the server: code generates outside of a request, or without an embedding."""


def current() -> RequestContext:
    try:
        return _current.get()
    except LookupError:
        raise NoConditioning("no request context, so no embedding to condition on") from None


@contextmanager
def entered(request: RequestContext) -> Iterator[None]:
    """Make `request` the current context inside the block."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def timeline() -> Timeline:
    """The current request's timeline. Outside of a request, a new one that is discarded."""
    request = _current.get(None)
    return Timeline() if request is None else request.timeline


def engine_inputs(
    prompt: Mapping[str, Any], extra_args: Mapping[str, Any] | None, embedding_dim: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the request's cache salt to a rendered prompt, and its embedding to the extra_args.

    Overwrites a client's value under EXTRA_ARG. Returns copies: beam search builds its next prompts
    from the first prompt, and would otherwise compute the salt of a salt. Raises NoConditioning
    outside of a request, and when the embedding's length is not `embedding_dim`.
    """
    request = current()
    if len(request.embedding) != 4 * embedding_dim:
        raise NoConditioning(
            f"the embedding has {len(request.embedding) // 4} numbers; "
            f"the model expects {embedding_dim}"
        )
    salt = cache_salt(request.embedding, prompt.get("cache_salt") or "", request.key_salt)
    return (
        {**prompt, "cache_salt": salt},
        {**(extra_args or {}), EXTRA_ARG: request.embedding},
    )
