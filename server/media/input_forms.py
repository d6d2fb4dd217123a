"""Convert the inputs of a request to /v1/embeddings to content parts.

Accepts the forms of several servers: strings (OpenAI), `messages` (vLLM), {"image": ...} (Jina),
and strings with the field `modality` (Infinity).
"""

from typing import Any

from server.errors import BadRequest
from server.media.attachments import MODALITIES, URL_PARTS, Json, Part, input_parts

TOKENS = (
    "input holds token ids, which ImageBind's encoders do not read; send texts "
    "(LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)"
)
# modality -> key of a content part that has its file as {"url": ...}
URL_PART_OF = {modality: part for part, modality in URL_PARTS.items()}
SCHEMES = ("data:", "http:", "https:", "attachment:")


def read_input_forms(document: Json, max_inputs: int) -> list[list[Part]]:
    """Return the content parts of each input of a request to /v1/embeddings.

    Raises BadRequest, which names the wrong input.
    """
    if "messages" in document:
        if document.get("input") is not None:
            raise BadRequest("send either input or messages", param="messages")
        return [conversation_parts(document["messages"])]
    value = document.get("input")
    items = value if isinstance(value, list) else [value]
    check_tokens(items)
    if not 1 <= len(items) <= max_inputs:
        raise BadRequest(f"input must hold 1 to {max_inputs} items", param="input")
    modality = document.get("modality")
    if modality is not None and modality not in MODALITIES:
        raise BadRequest(f"modality must be one of {', '.join(MODALITIES)}", param="modality")
    return [
        item_parts(item, f"input[{index}]" if isinstance(value, list) else "input", modality)
        for index, item in enumerate(items)
    ]


def item_parts(item: Any, param: str, modality: str | None = None) -> list[Part]:
    """Return the content parts of one input: a string, a part, {"content": [parts]}, or a list.
    `modality`: the modality of strings. None or "text": they are texts.
    """
    if isinstance(item, dict) and "content" in item and "type" not in item:
        item, param = item["content"], f"{param}.content"
    if isinstance(item, list):
        return input_parts([as_part(one, modality) for one in item], param)
    return input_parts(as_part(item, modality), param)


def conversation_parts(messages: Any) -> list[Part]:
    """Return all texts and attachments of chat messages, whose embeddings are mixed into one."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message", param="messages")
    parts: list[Part] = []
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict) or not message.get("content"):
            raise BadRequest("a message must be an object with content", param=param)
        parts += item_parts(message["content"], f"{param}.content")
    return parts


def as_part(item: Any, modality: str | None) -> Any:
    """Convert a string that is no text, or an object of Jina's form, to a content part."""
    if isinstance(item, str) and modality not in (None, "text"):
        return media_part(modality, item)
    if isinstance(item, dict) and "type" not in item and len(item) == 1:
        ((name, value),) = item.items()
        if name == "text":
            return {"type": "imagebind_text", "text": value}
        if name in MODALITIES and isinstance(value, str):
            return media_part(name, value)
    return item


def media_part(modality: str, text: str) -> Json:
    """Return the content part of a file that is given as a URL or as base64."""
    if not text[:16].lower().startswith(SCHEMES):
        return {"type": "file", "file": {"file_data": text}, "modality": modality}
    part = URL_PART_OF.get(modality, "image_url")
    return {"type": part, part: {"url": text}, "modality": modality}


def check_tokens(items: list[Any]) -> None:
    """Reject token ids. Raises BadRequest: when the items, or the elements of an item, are
    numbers.
    """
    for index, item in enumerate(items):
        if is_token(item) or (isinstance(item, list) and any(map(is_token, item))):
            raise BadRequest(TOKENS, param=f"input[{index}]")


def is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)
