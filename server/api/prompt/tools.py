"""Tools in a request: check their names and the arguments of earlier calls, name the files of
attachments, and correct the finish reason of choices.

The chat template writes tools into the prompt, and the tool parser reads calls
(model_ext/chat_template.jinja, model_ext/tool_parsers).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from model_ext.prompt import without_marks
from model_ext.tool_parsers.arguments import template_arguments
from model_ext.tool_parsers.gpt4tools import cut_inside
from server.api.body import Json
from server.conditioning.contexts import Contexts, message_index
from server.context import current
from server.errors import BadRequest
from server.media.attachments import EMBEDDING, Attachment
from server.media.sources import Link

MAX_NAME = 128  # Maximum number of characters of a tool's name.
# Modality -> suffix of a file's name. Attachments of other modalities have no name.
SUFFIXES = {
    **{"image": "png", "depth": "png", "thermal": "png", "video": "mp4", "audio": "wav"},
    **{"point": "ply", "imu": "npy"},
}


async def prepare_tools(
    document: Json, messages: Any, attachments: Sequence[Attachment], contexts: Contexts
) -> None:
    """Prepare a request for the chat template, in place: keep the arguments of earlier calls and,
    if the request has tools, add the names of attachments. Remove the prompt's marks from results.

    `messages`: the messages of a chat, or the items of a Responses request. Raises BadRequest.
    """
    check_tools(document)
    keep_arguments(messages)
    remove_marks(messages)
    if document.get("tools"):
        await name_files(messages, attachments, contexts)


def check_tools(document: Json) -> None:
    """Check the names of tools. The model writes a tool's name on a separate line.

    Raises a BadRequest that names the tool.
    """
    tools = document.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue  # vLLM rejects this request later
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
    """Convert arguments of earlier calls that are not JSON objects, in place, because vLLM would
    replace such arguments by {}.

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


def remove_marks(messages: Any) -> None:
    """Shorten the marks of the prompt's sections (`###`) in the results of tools, in place. A
    result may contain text that somebody else wrote.

    `messages`: of a chat, of Anthropic's Messages, or the items of a Responses request.
    """
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("role") == "tool":
            message["content"] = without_marks(message.get("content"))
        elif message.get("type") == "function_call_output":
            message["output"] = without_marks(message.get("output"))
        elif isinstance(blocks := message.get("content"), list):
            for block in blocks:
                if isinstance(block, dict) and block.get("type") == "tool_result":
                    block["content"] = without_marks(block.get("content"))


def keep(call: Json) -> None:
    """Convert arguments that are not a JSON object to {"": text}, which the chat template reads."""
    text = call.get("arguments")
    if isinstance(text, str):
        arguments = template_arguments(text)
        if "" in arguments:
            call["arguments"] = json.dumps(arguments)


async def name_files(messages: Any, attachments: Sequence[Attachment], contexts: Contexts) -> None:
    """Give attachments names, by which the model can pass them to a tool, and add the names to
    `contexts.files`.

    The name of a file in a tool's result is added to the text of the result, in place.
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
            if isinstance(text, list):  # a list of content parts
                text.append({"type": "text", "text": name})
            else:
                message["content"] = f"{text}\n{name}" if text else name
        elif (turn := contexts.turn_of(attachment.param)) >= 0:
            contexts.files[turn].append(name)


async def file_name(attachment: Attachment) -> str | None:
    """Return a name such as image/ab12cd34.png, with the first digits of the file's SHA-256 or, for
    a file at a URL, of the URL's SHA-256. Returns None for attachments without a file.
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
    """Set the finish reason `length` of choices that were cut inside a call. vLLM sets
    `tool_calls`.
    """
    texts = current().cut_texts
    for choice in getattr(answer, "choices", ()) if texts else ():
        text = texts.get(choice.index)
        if text is not None and choice.message.tool_calls and cut_inside(text, request):
            choice.finish_reason = "length"
