"""Let the language model list the nouns of its answer, in a second request to the engine.

The request has the grammar of a JSON schema and the text-only embedding, and counts as a request of
the client's key. The result is a document that matches the schema, or an error.
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
from vllm.sampling_params import StructuredOutputsParams

from model_ext.grounding.nouns import MAX_CHARACTERS, Noun
from server.api.state import AppState
from server.context import RequestContext, current, entered
from server.errors import RequestError, TooManyRequests, Unavailable

logger = logging.getLogger(__name__)

MAX_NOUNS, MAX_LENGTH = 32, 40
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
# The engine follows this regular expression, which matches only lists that are valid under SCHEMA.
# The schema itself allows any number of spaces between names, and some models then write spaces
# until their context is full.
NAME = rf'"[^"\\\x00-\x1f]{{1,{MAX_LENGTH}}}"'
LIST = rf'\{{"nouns":\[({NAME}(,{NAME}){{0,{MAX_NOUNS - 1}}})?\]\}}'


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
        handler, name = state.openai_serving_chat, state.settings.name
        try:
            answer: Any = await handler.create_chat_completion(request_of(text, name), None)
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


def request_of(text: str, model: str) -> ChatCompletionRequest:
    return ChatCompletionRequest(
        model=model,
        messages=[{"role": "user", "content": PROMPT + text[:MAX_CHARACTERS]}],
        temperature=0,
        structured_outputs=StructuredOutputsParams(regex=LIST),
    )


def count_request(state: AppState, key: str) -> None:
    """Count the request in the client's requests per minute. Raises TooManyRequests."""
    per_minute = state.settings.key_requests_per_minute
    if per_minute and state.key_usage[key].wait_s(per_minute):
        raise TooManyRequests("too many requests with this API key", code="rate_limit_exceeded")


def read_list(answer: str) -> list[str]:
    """Parse the model's list of nouns. Raises Unavailable: when the answer has no list, because the
    model's context was full.
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
