"""The context of one request: its conditioning embedding, its cache salt and its timeline.

`api/middleware/context.py` creates a `RequestContext` for each HTTP request. All tasks that the
request starts share this object. A route with attachments replaces the embedding. Only
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

BATCHES = "batches"  # the client's id of all requests of batches


@dataclass(frozen=True, slots=True)
class Span:
    stage: str
    modality: str  # Modality of the attachment; "" for stages of the whole request.
    start: float  # Unix time of the stage's start, in seconds.
    seconds: float
    failed: bool


@dataclass(slots=True)
class Timeline:
    spans: list[Span] = field(default_factory=list)
    attachments: Counter[str] = field(default_factory=Counter)  # Number of attachments by modality.
    # The value of time.perf_counter at the first call to the engine.
    generating: float | None = None

    def begin_generating(self) -> None:
        """Record when the first generation of the request starts. Later calls have no effect."""
        if self.generating is None:
            self.generating = time.perf_counter()


@dataclass(slots=True)
class RequestContext:
    # The embedding as packed bytes: the text-only embedding, until a route replaces it.
    embedding: bytes
    # A digest of the API key. As a salt, it prevents clients from sharing blocks of vLLM's prefix
    # cache.
    key_salt: str = ""

    # The client's address, or its network (api/middleware/context.py).
    address: str = ""

    # Whether the request is of a batch.
    batch: bool = False

    # The name of the request's field with the grammar of the answer, for error messages.
    grammar_field: str = "structured_outputs"
    timeline: Timeline = field(default_factory=Timeline)

    def condition_on(self, embedding: Vector) -> None:
        """Set the embedding (D,) that conditions everything that the request generates."""
        self.embedding = pack(embedding)

    @property
    def client(self) -> str:
        """The client's id in limits and queues that clients share: the digest of its API key, or
        its address if it sent no key. All batches together count as one client, so that each other
        client has as much as they have.
        """
        if self.batch:
            return BATCHES
        return self.key_salt or self.address


_current: ContextVar[RequestContext] = ContextVar("bindserve_request")


class NoConditioning(RuntimeError):
    """Raised when code calls the engine outside of a request or without an embedding.

    This is always a defect of the server.
    """


def current() -> RequestContext:
    try:
        return _current.get()
    except LookupError:
        raise NoConditioning("no request context, so no embedding to condition on") from None


@contextmanager
def entered(request: RequestContext) -> Iterator[None]:
    """Make `request` the current context inside the `with` block."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def timeline() -> Timeline:
    """The current request's timeline. Outside of a request, returns a new timeline that is
    discarded.
    """
    request = _current.get(None)
    return Timeline() if request is None else request.timeline


def client() -> str:
    """The current request's client; "" outside of a request."""
    request = _current.get(None)
    return "" if request is None else request.client


def key_salt() -> str:
    """The current request's `key_salt`; "" outside of a request."""
    request = _current.get(None)
    return "" if request is None else request.key_salt


def engine_inputs(
    prompt: Mapping[str, Any], extra_args: Mapping[str, Any] | None, embedding_dim: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the request's embedding to `extra_args`, and its cache salt to the rendered prompt.

    Overwrites a value that the client set for the key EXTRA_ARG. Returns copies, because beam
    search builds its next prompts from the first prompt: a salt in that prompt would be salted
    again.

    Raises NoConditioning: outside of a request, or when the embedding's length is not
    `embedding_dim`.
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
