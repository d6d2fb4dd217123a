"""Tools in a request: check their names and the arguments of earlier calls, name the files of
attachments, and correct the reason why a choice ended.

The chat template and the tool parser do the rest (model_ext/chat_template.jinja,
model_ext/tool_parsers).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from model_ext.tool_parsers.arguments import template_arguments
from model_ext.tool_parsers.gpt4tools import cut_inside
from server.api.body import Json
from server.conditioning.contexts import Contexts, message_index
from server.context import current
from server.errors import BadRequest
from server.media.attachments import EMBEDDING, Attachment
from server.media.sources import Link

MAX_NAME = 128  # maximum number of characters of a tool's name
# The suffix of a file's name, by modality. Other attachments have no name.
SUFFIXES = {
    **{"image": "png", "depth": "png", "thermal": "png", "video": "mp4", "audio": "wav"},
    **{"point": "ply", "imu": "npy"},
}


async def prepare_tools(
    document: Json, messages: Any, attachments: Sequence[Attachment], contexts: Contexts
) -> None:
    """Prepare a request for the chat template, in place: arguments of earlier calls, and the names
    of attachments, if the request has tools.

    `messages`: the messages of a chat, or the items of a Responses request. Raises BadRequest.
    """
    check_tools(document)
    keep_arguments(messages)
    if document.get("tools"):
        await name_files(messages, attachments, contexts)


def check_tools(document: Json) -> None:
    """Check the names of tools, which the model writes in a line of their own.

    Raises BadRequest, which names the tool.
    """
    tools = document.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue  # vLLM rejects the request.
        function = tool.get("function")
        where, holder = f"tools[{index}].name", tool
        if isinstance(function, dict):
            where, holder = f"tools[{index}].function.name", function
        name = holder.get("name")
        if isinstance(name, str) and (
            not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip()
        ):
            raise BadRequest(
                f"a tool's name must have 1 to {MAX_NAME} printable characters, "
                "without spaces at its ends",
                param=where,
            )


def keep_arguments(messages: Any) -> None:
    """Let vLLM pass the arguments of earlier calls that are no JSON objects to the chat template.
    vLLM would replace them by {}.

    `messages`: of a chat, or the items of a Responses request.
    """
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("type") == "function_call":
            keep(message)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                keep(call["function"])


def keep(call: Json) -> None:
    """Write arguments that are no JSON object as {"": text}, which the chat template reads."""
    text = call.get("arguments")
    if isinstance(text, str):
        arguments = template_arguments(text)
        if "" in arguments:
            call["arguments"] = json.dumps(arguments)


async def name_files(messages: Any, attachments: Sequence[Attachment], contexts: Contexts) -> None:
    """Write the names by which the model can pass attachments to a tool to `contexts.files`.

    The names of a tool result's files are added to the text of this result, in place.
    """
    contexts.files = [[] for _ in contexts.turns]
    for attachment in attachments:
        name = await file_name(attachment)
        if name is None:
            continue
        index = message_index(attachment.param)
        message = {} if index is None else messages[index]
        if message.get("role") == "tool":
            text = message.get("content")
            message["content"] = f"{text}\n{name}" if text else name
        elif (turn := contexts.turn_of(attachment.param)) >= 0:
            contexts.files[turn].append(name)


async def file_name(attachment: Attachment) -> str | None:
    """A name such as image/ab12cd34.png, with the first digits of the file's SHA-256. The name of
    a file at a URL has those of the URL.
    """
    suffix = SUFFIXES.get(attachment.modality)
    if attachment.modality == EMBEDDING or suffix is None or attachment.param.endswith(".sound"):
        return None
    source = attachment.source
    if isinstance(source, Link):
        digest = hashlib.sha256(source.url.encode()).digest()
    else:
        digest = await source.digest()
    return f"{attachment.modality}/{digest.hex()[:8]}.{suffix}"


def correct_finish_reasons(answer: Any, request: Any) -> None:
    """Set the reason `length` for choices that were cut inside a call. vLLM sets `tool_calls`."""
    texts = current().cut_texts
    for choice in getattr(answer, "choices", ()) if texts else ():
        text = texts.get(choice.index)
        if text is not None and choice.message.tool_calls and cut_inside(text, request):
            choice.finish_reason = "length"
