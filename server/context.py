"""The context of one request: the embedding that conditions it, the salt of the prefix cache, and
the timeline.

`api/middleware/context.py` creates a `RequestContext` for each HTTP request. All tasks of the
request share this object. A route with attachments replaces the embedding. Only `ConditionedLLM`
(engine/llm.py) calls `engine_inputs`, which adds the embedding to the engine's inputs.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from model_ext.conditioning import EXTRA_ARG, Vector, cache_salt, pack

BATCHES = "batches"  # the client id of all requests that belong to batches


@dataclass(frozen=True, slots=True)
class Span:
    stage: str
    modality: str  # Modality of the attachment, or "" for a stage of the whole request.
    start: float  # Unix time of the stage's start, in seconds.
    seconds: float
    failed: bool


@dataclass(slots=True)
class Timeline:
    spans: list[Span] = field(default_factory=list)
    attachments: Counter[str] = field(default_factory=Counter)  # Number of attachments by modality.
    # The value of time.perf_counter when the engine was called first.
    generating: float | None = None

    def begin_generating(self) -> None:
        """Record when the first generation of the request starts. Later calls have no effect."""
        if self.generating is None:
            self.generating = time.perf_counter()


@dataclass(slots=True)
class RequestContext:
    # The embedding as packed bytes. It is the text-only embedding until a route replaces it.
    embedding: bytes
    # A digest of the API key. It is part of the cache salt, so that keys do not share blocks of
    # vLLM's prefix cache.
    key_salt: str = ""

    # The client's address, or its network (api/middleware/context.py).
    address: str = ""

    # Whether the request is of a batch.
    batch: bool = False

    # The name of the request's field with the grammar of the answer, for error messages.
    grammar_field: str = "structured_outputs"
    timeline: Timeline = field(default_factory=Timeline)
    # Index of a choice with tools -> its text, if the maximum number of tokens ended the text.
    cut_texts: dict[int, str] = field(default_factory=dict)

    def condition_on(self, embedding: Vector) -> None:
        """Set the embedding (D,) that conditions the answers to this request."""
        self.embedding = pack(embedding)

    @property
    def client(self) -> str:
        """The id of the client in shared limits and queues: the digest of its API key, or its
        address if it sent no key. All batches together count as one client, so that each other
        client has as much as they have.
        """
        if self.batch:
            return BATCHES
        return self.key_salt or self.address


_current: ContextVar[RequestContext] = ContextVar("bindserve_request")


class NoConditioning(RuntimeError):
    """Raised when code calls the engine outside of a request, or with an embedding of a wrong
    length.

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
    """Return the current request's timeline. Outside of a request, returns a new timeline, which
    nothing reads.
    """
    request = _current.get(None)
    return Timeline() if request is None else request.timeline


def client() -> str:
    """Return the client of the current request, or "" outside of a request."""
    request = _current.get(None)
    return "" if request is None else request.client


def key_salt() -> str:
    """Return the `key_salt` of the current request, or "" outside of a request."""
    request = _current.get(None)
    return "" if request is None else request.key_salt


def engine_inputs(
    prompt: Mapping[str, Any], extra_args: Mapping[str, Any] | None, embedding_dim: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the request's embedding to `extra_args`, and its cache salt to the rendered prompt.

    Overwrites a value that the client set for the key EXTRA_ARG. Returns copies, because beam
    search builds its next prompts from the first prompt, and a salt in that prompt would be salted
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
