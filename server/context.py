"""What a request carries besides its JSON: the conditioning embedding and the salts.

`ContextMiddleware` installs one `RequestContext` for each HTTP request; every task that the
request starts shares it by reference. A route with attachments replaces the embedding. `condition`
hands it to the engine and is called by nobody but `ConditionedLLM` (engine.py).
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from model_ext.conditioning import EXTRA_ARG, cache_salt, pack
from server.mix import Array
from server.timeline import Timeline


@dataclass(slots=True)
class RequestContext:
    embedding: bytes  # packed; the model's text-only embedding until a route replaces it
    key_salt: str = ""  # from the API key, so that clients do not share prefix-cache blocks
    timeline: Timeline = field(default_factory=Timeline)

    def condition_on(self, embedding: Array) -> None:
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


def timeline() -> Timeline:
    """The request's; outside of one, what is noted is forgotten."""
    request = _current.get(None)
    return Timeline() if request is None else request.timeline


class ContextMiddleware:
    """Outermost: every HTTP request starts with the text-only embedding."""

    def __init__(self, app: ASGIApp, text_only: bytes) -> None:
        self.app = app
        self.text_only = text_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        token = _current.set(RequestContext(self.text_only))
        try:
            await self.app(scope, receive, send)
        finally:
            _current.reset(token)


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
