"""Pass the texts of Input slots (media/contexts.py) from a request to the chat template."""

from functools import partial
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from server.api.body import Incoming, run
from server.api.state import state_of
from server.errors import BadRequest
from server.media.contexts import Contexts, take_contexts


async def contexts_of(
    messages: Any, where: str, incoming: Incoming, raw_request: Request
) -> Contexts:
    """Take the context parts out of messages whose attachments have been removed.

    `where`: the request's field with the messages. Raises BadRequest.
    """
    state = state_of(raw_request)

    def starts(text: str) -> list[int]:
        return token_starts(state.engine_client.renderer.tokenizer, text)

    contexts = Contexts(starts, state.settings.max_context_tokens)
    await run(incoming.large, partial(take_contexts, messages, contexts, where=where))
    return contexts


def fill_input_slots(request: BaseModel, contexts: Contexts, raw_request: Request) -> None:
    """Pass the texts to the chat template, in the variable `contexts` of vLLM's parsed request.

    Raises BadRequest: when the template has no Input slot.
    """
    if texts := contexts.values():
        set_template_variable(request, "contexts", texts, raw_request)


def set_template_variable(request: Any, name: str, value: list[Any], raw_request: Request) -> None:
    """Set a variable of the chat template. Raises BadRequest: when the template has none."""
    state = state_of(raw_request)
    template = state.openai_serving_chat.chat_template
    template = template or state.engine_client.renderer.tokenizer.chat_template
    if name not in str(template):
        raise BadRequest(
            f"this model's chat template does not print {name}; "
            "the operator may replace chat_template.jinja by that of this version",
            code="not_supported",
        )
    request.chat_template_kwargs = {**(request.chat_template_kwargs or {}), name: value}


def token_starts(tokenizer: Any, text: str) -> list[int]:
    """The positions in the text at which its tokens start."""
    # The other methods of the tokenizer cannot run in several threads at the same time.
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return [start for start, _ in encoding.offsets]
