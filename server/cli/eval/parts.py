"""Build the request of a question: an OpenAI chat completion, with media as data: URLs."""

import base64
import mimetypes
from pathlib import Path
from typing import Any

from model_ext.eval.errors import DataError
from model_ext.eval.item import EarlierTurn, Item
from model_ext.eval.tasks.decoding import PARAMETERS, Decoding
from model_ext.eval.tasks.task import Task

MAX_MEDIA_BYTES = 1 << 28
PARTS = {
    "image": "image_url",
    "audio": "audio_url",
    "video": "video_url",
    "point": "point_cloud_url",
}
# Files of these modalities are sent in content parts of the type `file`, with the key `modality`.
FILES = ("depth", "thermal", "imu")


def request_body(
    item: Item,
    task: Task,
    model: str,
    decoding: Decoding,
    *,
    text_only: bool,
    imagebind: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the request of a question. Blocks while it reads the media.

    `imagebind`: the request's object of this name.
    Raises DataError: when a file cannot be read.
    """
    messages = []
    for turn in item.earlier:
        messages += [user(turn, item, text_only), {"role": "assistant", "content": turn.answer}]
    return {
        "model": model,
        "messages": [*messages, user(item, item, text_only)],
        "max_tokens": item.max_tokens or task.max_tokens,
        **PARAMETERS[decoding],
        **({} if imagebind is None else {"imagebind": imagebind}),
    }


def user(turn: Item | EarlierTurn, item: Item, text_only: bool) -> dict[str, Any]:
    parts = [] if text_only else [media_part(*media, item) for media in turn.media()]
    if isinstance(turn, Item) and turn.input:
        parts.append({"type": "context", "text": turn.input})
    return {"role": "user", "content": [*parts, {"type": "text", "text": turn.question}]}


def media_part(modality: str, source: str, item: Item) -> dict[str, Any]:
    part: dict[str, Any]
    if modality in FILES:
        data = data_url(source).partition(",")[2]
        file = {"filename": f"{modality}{Path(source).suffix[:8]}", "file_data": data}
        part = {"type": "file", "file": file, "modality": modality}
    else:
        kind = PARTS[modality]
        part = {"type": kind, kind: {"url": data_url(source)}}
    weight = (item.weights or {}).get(modality)
    return part if weight is None else {**part, "weight": weight}


def data_url(source: str) -> str:
    if source.startswith("data:"):
        return source
    try:
        with Path(source).open("rb") as file:
            blob = file.read(MAX_MEDIA_BYTES + 1)
    except OSError as e:
        raise DataError(source, f"cannot be read: {e.strerror}") from e
    if len(blob) > MAX_MEDIA_BYTES:
        raise DataError(source, f"is larger than {MAX_MEDIA_BYTES} bytes")
    mime = mimetypes.guess_type(source)[0] or "application/octet-stream"
    return f"data:{mime};base64,{base64.b64encode(blob).decode()}"
