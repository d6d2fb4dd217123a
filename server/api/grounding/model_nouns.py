"""Let the language model list the nouns of its answer, in a second request to the engine.

The request has a JSON schema and the text-only embedding, and counts as a request of the client's
key. The result is a document that matches the schema, or an error.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)

from model_ext.grounding.nouns import MAX_CHARACTERS, Noun
from server.api.state import AppState
from server.context import RequestContext, current, entered
from server.errors import RequestError, TooManyRequests, Unavailable

logger = logging.getLogger(__name__)

MAX_NOUNS, MAX_LENGTH = 32, 80
MAX_TOKENS = 512
PROMPT = (
    "List the things that the following description of a picture says are in the picture. Copy each"
    " thing with its adjectives from the description. Leave out things that it says are absent.\n\n"
)
SCHEMA = {
    "type": "object",
    "properties": {
        "nouns": {
            "type": "array",
            "maxItems": MAX_NOUNS,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH},
        }
    },
    "required": ["nouns"],
    "additionalProperties": False,
}


async def nouns_by_model(text: str, state: AppState) -> list[Noun]:
    """Return the nouns that the model lists and that the text contains.

    Raises Unavailable: when the server is full, or vLLM rejects the request. TooManyRequests: when
    the key has sent too many requests.
    """
    caller = current()
    count_request(state, caller.key_salt)
    context = RequestContext(
        state.components.text_only, key_salt=caller.key_salt, address=caller.address
    )
    with place(state, caller.client), entered(context):
        handler = state.openai_serving_chat
        try:
            answer: Any = await handler.create_chat_completion(request_of(text, state), None)
        except RequestError:
            raise
        except Exception as error:  # vLLM's own errors, for example for a prompt that is too long
            logger.warning("the request for nouns failed: %s", type(error).__name__)
            raise not_listed() from None
    if not isinstance(answer, ChatCompletionResponse):
        raise not_listed()
    return located(read_list(answer.choices[0].message.content or ""), text)


def not_listed() -> Unavailable:
    return Unavailable("the model did not list the nouns", code="nouns_unavailable")


@contextmanager
def place(state: AppState, client: str) -> Iterator[None]:
    """Count one more running request of the client. Raises Unavailable: when the server is full."""
    if not state.settings.max_requests:
        yield
        return
    if not state.running.take(client):
        raise Unavailable("too many requests at a time", code="server_full")
    try:
        yield
    finally:
        state.running.give_back(client)


def request_of(text: str, state: AppState) -> ChatCompletionRequest:
    return ChatCompletionRequest(
        model=state.settings.name,
        messages=[{"role": "user", "content": PROMPT + text[:MAX_CHARACTERS]}],
        temperature=0,
        max_tokens=MAX_TOKENS,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "nouns", "schema": SCHEMA, "strict": True},
        },
    )


def count_request(state: AppState, key: str) -> None:
    """Count the request in the client's requests per minute. Raises TooManyRequests."""
    per_minute = state.settings.key_requests_per_minute
    if per_minute and state.key_usage[key].wait_s(per_minute):
        raise TooManyRequests("too many requests with this API key", code="rate_limit_exceeded")


def read_list(answer: str) -> list[str]:
    """Parse the model's list of nouns. Raises Unavailable: when the answer has no list, because it
    was cut at the token limit.
    """
    try:
        document = json.loads(answer)
        nouns = document["nouns"]
        if not isinstance(nouns, list) or not all(isinstance(each, str) for each in nouns):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unavailable(
            "the model's list of nouns was cut off", code="nouns_unavailable"
        ) from None
    return nouns[:MAX_NOUNS]


def located(names: list[str], text: str) -> list[Noun]:
    """Find each name in the text, ignoring case. A repeated name gets its next position in the
    text. Omits names that the text does not contain.
    """
    lower, after = text.lower(), dict[str, int]()
    # A few letters are longer in lower case, which would shift the positions of later letters.
    lower = lower if len(lower) == len(text) else text
    nouns = []
    for name in (each.strip() for each in names):
        start = lower.find(name.lower(), after.get(name.lower(), 0)) if name else -1
        if start < 0:
            continue
        end = after[name.lower()] = start + len(name)
        own = text[start:end]
        words = own.split()
        nouns.append(Noun(own, start, end, words[-1].lower(), tuple(words[:-1]), own))
    return sorted(nouns, key=lambda noun: noun.start)
