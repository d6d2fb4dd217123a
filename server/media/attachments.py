"""Attachments: content parts (images, sounds and so on) that condition the model's answer.

This module reads attachments from a request's JSON in two steps. The `..._parts` functions remove
the `Part`s from a field of the request; texts stay there. `read_attachments` turns each `Part` into
an `Attachment` (its modality, and a blob or link). `sources.py` finds the bytes of a part, and
`encoding/decode` decodes the bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.kinds import kind
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, ReadOptions
from model_ext.imagebind.preprocess.sniff import sniff
from server.errors import BadRequest, TooLarge, UnsupportedMediaType
from server.media.base64 import read_embedding
from server.media.blob import Blob, MemoryBlob
from server.media.read_options import read_options, read_weight, sound_weight
from server.media.sources import Link, Source, Sources, check_size

EMBEDDING = "embedding"  # the `modality` of an attachment whose embedding the client computed
MODALITIES = tuple(ENCODER_OF)

# type of a content part that has a file as {"url": ...} -> modality
URL_PARTS = {
    "image_url": "image",
    "audio_url": "audio",
    "video_url": "video",
    "point_cloud_url": "point",
}
TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})
OTHER_PARTS = ("input_audio", "file", "imagebind_text", "imagebind_embedding")
CONTEXT = "context"  # a part with a text for the Input slot (contexts.py), not an attachment
PART_TYPES = (*sorted(TEXT_PARTS), CONTEXT, *URL_PARTS, *OTHER_PARTS)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A content part that is an attachment."""

    json: Json
    param: str  # position of the part in the request, for error messages


@dataclass(frozen=True, slots=True)
class Attachment:
    modality: str  # One of MODALITIES, or EMBEDDING.
    source: Source  # The file, the text in UTF-8, or an embedding as little-endian float32 numbers.
    weight: float
    param: str  # position of the part in the request, for error messages
    options: ReadOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class AttachmentLimits:
    count: int  # Maximum number of attachments in one request.
    media: Limits
    embedding_dim: int  # Length D of an embedding.
    options: ReadOptions = DEFAULT_OPTIONS  # The operator's defaults.


def message_parts(
    messages: Any, *, where: str = "messages", pass_on: frozenset[str] = frozenset()
) -> list[Part]:
    """Remove the attachments from chat messages, in place. Returns the attachments in order.

    `where`: the request's field with the messages. `pass_on`: the types of parts that stay in the
    messages, in addition to texts and contexts.
    """
    if not isinstance(messages, list):
        raise BadRequest(f"{where} must be a list", param=where)
    removed: list[Part] = []
    for index, message in enumerate(messages):
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            texts, parts = _split(
                message["content"],
                f"{where}[{index}].content",
                TEXT_PARTS | {CONTEXT} | pass_on,
            )
            message["content"] = as_text(texts)
            removed += parts
    return removed


def list_parts(items: Any) -> list[Part]:
    """Return the content parts in the top-level list `attachments` of a request to
    /v1/completions.
    """
    if not isinstance(items, list):
        raise BadRequest("attachments must be a list of content parts", param="attachments")
    texts, parts = _split(items, "attachments", TEXT_PARTS)
    if texts:
        raise BadRequest(
            "attachments contains a text part; the text belongs into prompt", param="attachments"
        )
    return parts


def input_parts(item: Any, param: str) -> list[Part]:
    """Return the content parts of one input of /v1/embeddings: a string, a part, or a list of
    parts.

    In this route, a text is an attachment.
    """
    items = item if isinstance(item, list) else [item]
    if not items or not all(isinstance(each, str | dict) for each in items):
        raise BadRequest(
            "an input must be a string, a content part or a list of parts, not token ids",
            param=param,
        )
    return [
        Part(_text_as_attachment(each), f"{param}[{index}]" if item is items else param)
        for index, each in enumerate(items)
    ]


def read_attachments(
    parts: Sequence[Part], limits: AttachmentLimits, sources: Sources
) -> list[Attachment]:
    """Read the content parts, and then the uploaded files that no part refers to.

    Raises BadRequest, TooLarge, UnsupportedMediaType or NotFound: the error names the part.
    """
    attachments: list[Attachment] = []
    for part in parts:
        _check_count(len(attachments), limits, part.param)
        attachment = read_attachment(part, limits, sources)
        attachments.append(attachment)
        weight = sound_weight(part.json, part.param)
        if weight is not None:
            param = f"{part.param}.sound"
            _check_count(len(attachments), limits, param)
            attachments.append(replace(attachment, modality="audio", weight=weight, param=param))
    for upload in sources.unused():
        _check_count(len(attachments), limits, upload.field)
        modality = _modality_of(upload.content, upload.filename, None, limits.media, upload.field)
        attachments.append(Attachment(modality, upload.content, 1.0, upload.field, limits.options))
    return attachments


def read_attachment(part: Part, limits: AttachmentLimits, sources: Sources) -> Attachment:
    modality, source = _read_source(part, limits, sources)
    options = read_options(part.json, modality, limits.options, part.param)
    return Attachment(modality, source, read_weight(part.json, part.param), part.param, options)


def _split(items: list[Any], where: str, stay: frozenset[str]) -> tuple[list[Json], list[Part]]:
    """Split content parts into two lists: those whose type is in `stay`, and all others, which are
    attachments.
    """
    kept: list[Json] = []
    parts: list[Part] = []
    for index, item in enumerate(items):
        param = f"{where}[{index}]"
        if isinstance(item, str):
            kept.append({"type": "text", "text": item})
        elif not isinstance(item, dict):
            raise BadRequest("a content part must be an object with a type", param=param)
        elif _type(item) in stay:
            kept.append(item)
        else:
            parts.append(Part(item, param))
    return kept, parts


def as_text(parts: list[Json]) -> str | list[Json]:
    """Join text parts into one string, as vLLM does. If there are other parts, return the list."""
    if all(part["type"] == "text" and isinstance(part.get("text"), str) for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _text_as_attachment(part: str | Json) -> Json:
    if isinstance(part, str):
        return {"type": "imagebind_text", "text": part}
    return {**part, "type": "imagebind_text"} if _type(part) in ("text", "input_text") else part


def _check_count(count: int, limits: AttachmentLimits, param: str) -> None:
    if count >= limits.count:
        raise BadRequest(f"more than {limits.count} attachments", param=param)


def _read_source(part: Part, limits: AttachmentLimits, sources: Sources) -> tuple[str, Source]:
    """Return the modality and the bytes (or link) of a content part."""
    part_type, override, media = _type(part.json), _modality(part), limits.media
    if part_type in URL_PARTS:
        modality = override or URL_PARTS[part_type]
        url = _field(part, part_type, "url")
        max_bytes = media.bytes_of(modality)
        return modality, sources.read(url, max_bytes=max_bytes, param=part.param)
    if part_type == "input_audio":
        modality = override or "audio"
        data = _field(part, part_type, "data")
        max_bytes = media.bytes_of(modality)
        return modality, sources.read(data, max_bytes=max_bytes, param=part.param, bare=True)
    if part_type == "file":
        return _read_file(part, override, media, sources)
    if part_type == "imagebind_text":
        return "text", MemoryBlob(_read_text(part, media.text_bytes))
    if part_type == "imagebind_embedding":
        numbers = part.json.get(part_type)
        return EMBEDDING, MemoryBlob(read_embedding(numbers, limits.embedding_dim, part.param))
    raise BadRequest(
        f"unknown content part type {_shown(part.json.get('type'))}; "
        f"expected one of {', '.join(PART_TYPES)}",
        param=part.param,
    )


def _read_file(
    part: Part, modality: str | None, media: Limits, sources: Sources
) -> tuple[str, Source]:
    """Read a content part that contains a file of any modality, or the id of a stored file."""
    file = part.json.get("file")
    if isinstance(file, dict) and file.get("file_id") is not None:
        stored = sources.stored(file["file_id"], param=f"{part.param}.file.file_id")
        blob: Blob = stored.content
        return _modality_of(blob, stored.filename, modality, media, part.param), blob
    data = _field(part, "file", "file_data")
    name = file.get("filename") if isinstance(file, dict) else None
    max_bytes = max(media.bytes_of(each) for each in ([modality] if modality else MODALITIES))
    source = sources.read(data, max_bytes=max_bytes, param=part.param, bare=True)
    if isinstance(source, Link):
        raise BadRequest("file_data must contain the file, not a URL", param=part.param)
    filename = name if isinstance(name, str) else None
    return _modality_of(source, filename, modality, media, part.param), source


def _modality_of(
    blob: Blob, filename: str | None, modality: str | None, media: Limits, param: str
) -> str:
    """Return the modality that the part states.

    Otherwise, detects it from the bytes or the file name.

    Raises UnsupportedMediaType: when the modality cannot be determined.
    Raises TooLarge, BadRequest: for the blob's size.
    """
    modality = modality or sniff(blob.head(), filename)
    if modality is None:
        raise UnsupportedMediaType(not_read(blob.head()), param=param)
    check_size(blob, media.bytes_of(modality), param)
    return modality


def not_read(head: bytes) -> str:
    """Return the message for a file whose modality the server does not recognize."""
    if (unsupported := kind(head)) is not None:
        name, advice = unsupported
        return f"this file is {name}, which the server does not read: {advice}"
    return (
        "the server does not recognize this file by its first bytes: state `modality` in the"
        " file's part if it is a depth map, a thermal picture, IMU values, a table"
        " of points, or a text"
    )


def _type(part: Json) -> str:
    part_type = part.get("type")
    return part_type if isinstance(part_type, str) else ""


def _modality(part: Part) -> str | None:
    modality = part.json.get("modality")
    if modality is None or modality in MODALITIES:
        return modality
    raise BadRequest(
        f"unknown modality {_shown(modality)}; expected one of {', '.join(MODALITIES)}",
        param=f"{part.param}.modality",
    )


def _field(part: Part, name: str, key: str) -> str:
    """Return part[name][key], or part[name] if the client sent the value without an object around
    it.
    """
    value = part.json.get(name)
    if isinstance(value, dict):
        value = value.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must hold a string {key}", param=f"{part.param}.{name}.{key}")
    return value


def _read_text(part: Part, max_bytes: int) -> bytes:
    text = part.json["text"] if isinstance(part.json.get("text"), str) else None
    text = _field(part, "imagebind_text", "text") if text is None else text
    try:
        data = text.encode()
    except UnicodeEncodeError:  # JSON can contain a lone surrogate, which cannot be encoded
        raise BadRequest("the text is not valid Unicode", param=part.param) from None
    if len(data) > max_bytes:
        raise TooLarge(f"the text is larger than {max_bytes} bytes", param=part.param)
    return data


def _shown(value: object) -> str:
    """Shorten a client's value for an error message."""
    return json.dumps(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"
