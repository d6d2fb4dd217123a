"""Pass texts of Input slots (server/conditioning/contexts.py) and names of files to the chat
template.
"""

from functools import partial
from typing import Any

from fastapi import Request

from server.api.body import Incoming, run
from server.api.limits.texts import check_texts
from server.api.state import state_of
from server.conditioning.contexts import Contexts, take_contexts
from server.errors import BadRequest


async def contexts_of(
    messages: Any, where: str, incoming: Incoming, raw_request: Request
) -> Contexts:
    """Check the length of all texts, and take the context parts out of messages whose attachments
    have been removed.

    `where`: the request's field with the messages. Raises BadRequest.
    """
    state = state_of(raw_request)

    def starts(text: str) -> list[int]:
        return token_starts(state.engine_client.renderer.tokenizer, text)

    check_texts(incoming.document, state.prompt_limits)
    contexts = Contexts(starts, state.settings.max_context_tokens)
    await run(incoming.large, partial(take_contexts, messages, contexts, where=where))
    return contexts


def fill_input_slots(request: Any, contexts: Contexts, raw_request: Request) -> None:
    """Pass the texts, and the names of files, to the chat template, as variables of vLLM's parsed
    request.

    Raises BadRequest: when the template has no Input slot.
    """
    texts = contexts.values()
    variables: dict[str, Any] = {"contexts": texts} if texts else {}
    if any(contexts.files):
        variables["attachments"] = contexts.files
    if not variables:
        return
    state = state_of(raw_request)
    template = state.openai_serving_chat.chat_template
    template = template or state.engine_client.renderer.tokenizer.chat_template
    if texts and "contexts" not in str(template):
        raise BadRequest(
            "this model's chat template has no Input slot; the operator can replace "
            "chat_template.jinja in the model folder by this version's template",
            code="not_supported",
        )
    request.chat_template_kwargs = {**(request.chat_template_kwargs or {}), **variables}


def token_starts(tokenizer: Any, text: str) -> list[int]:
    """Return the position in the text at which each token starts."""
    # Call the backend, because the tokenizer's methods cannot run in several threads at the same
    # time.
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return [start for start, _ in encoding.offsets]
