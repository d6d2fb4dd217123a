"""Pictures in the answers of /v1/chat/completions: `modalities: ["text", "image"]`.

The pictures follow the text, as `images` of the message or of a stream's delta.
"""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel

from server.api.pictures.drawing import Drawing
from server.errors import BadRequest, RequestError, body

Json = dict[str, Any]

NO_CHOICES = '"choices":[]'  # only the chunk with the token counts has this text
ERROR_EVENT = 'data: {"error"'
DONE = "data: [DONE]"


def take_modalities(document: Json) -> bool:
    """Remove the field `modalities`. Returns whether the answer has pictures.

    Raises BadRequest: when the field is not a list of "text" and, optionally, "image".
    """
    modalities = document.pop("modalities", None)
    if modalities is None:
        return False
    if (
        not isinstance(modalities, list)
        or "text" not in modalities
        or any(each not in ("text", "image") for each in modalities)
    ):
        raise BadRequest(
            'modalities must be ["text"] or ["text", "image"]; for pictures without a text, use '
            "the route images/generations",
            param="modalities",
        )
    return "image" in modalities


def last_user_text(messages: Any) -> str:
    """Return the text of the last user message. The attachments have already been removed."""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                texts = [part.get("text") for part in content if isinstance(part, dict)]
                return "\n".join(text for text in texts if isinstance(text, str))
            return content if isinstance(content, str) else ""
    return ""


async def with_images(answer: Any, drawing: Drawing) -> Any:
    """Return vLLM's answer with the pictures: a stream, JSON, or vLLM's error unchanged."""
    if isinstance(answer, AsyncGenerator):
        return stream_images(answer, drawing)
    return await add_images(answer.model_dump(), drawing) if has_choices(answer) else answer


def has_choices(answer: Any) -> bool:
    return isinstance(answer, BaseModel) and hasattr(answer, "choices")


async def add_images(answer: Json, drawing: Drawing) -> Json:
    """Add the pictures to an answer: one to each choice."""
    pictures, error = await drawing.result()
    for choice, picture in zip(answer["choices"], pictures, strict=False):
        choice["message"]["images"] = [image(picture)]
    return answer | failed(error)


async def stream_images(events: AsyncGenerator[str], drawing: Drawing) -> AsyncGenerator[str]:
    """Begin the drawing. Yield the stream's events, and a chunk with the pictures after the text.

    Closing this generator closes `events` and cancels the drawing.
    """
    head: Json = {}  # the fields that all chunks of the stream share
    waits = True
    drawing.begin()
    try:
        async with aclosing(events):
            async for event in events:
                if event.startswith(ERROR_EVENT):
                    waits = False
                elif not head and event.startswith("data: {"):
                    head = shared_fields(json.loads(event[6:]))
                if waits and (event.startswith(DONE) or NO_CHOICES in event):
                    waits = False
                    yield f"data: {json.dumps(head | await chunk(drawing))}\n\n"
                yield event
    finally:
        await drawing.close()


def shared_fields(first: Json) -> Json:
    return {key: first.get(key) for key in ("id", "object", "created", "model")}


async def chunk(drawing: Drawing) -> Json:
    """Return the chunk with the pictures, one for each choice."""
    pictures, error = await drawing.result()
    choices = [
        {"index": index, "delta": {"images": [image(picture)]}, "finish_reason": None}
        for index, picture in enumerate(pictures)
    ]
    return {"choices": choices} | failed(error)


def image(picture: bytes) -> Json:
    """Return OpenAI's content part of an image, with a PNG file."""
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def failed(error: RequestError | None) -> Json:
    """If the pictures could not be drawn, return `images_error` with OpenAI's error object."""
    return {} if error is None else {"images_error": body(error)["error"]}
