"""Attachments: the content parts that condition the model, taken out of the request's JSON.

Reads part types, weights and base64, all bounded; what the bytes hold is `decode.py`'s business.
Messages are left with text only, which is all that the language model sees of them.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.sniff import sniff
from server.data_url import read_base64, read_url
from server.errors import BadRequest, TooLarge, UnsupportedMediaType

EMBEDDING = "embedding"  # the modality of a vector that the client computed itself
MODALITIES = tuple(ENCODER_OF)

# The part types that carry a file as {"url": ...}, and the modality they stand for.
URL_PARTS = {
    "image_url": "image",
    "audio_url": "audio",
    "video_url": "video",
    "point_cloud_url": "point",
}
TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})
OTHER_PARTS = ("input_audio", "file", "imagebind_text", "imagebind_embedding")
KNOWN = (*sorted(TEXT_PARTS), *URL_PARTS, *OTHER_PARTS)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attachment:
    modality: str  # one of MODALITIES, or EMBEDDING
    data: bytes  # the file, the UTF-8 text, or little-endian float32 numbers (EMBEDDING)
    weight: float
    param: str  # where it is in the request; errors name it


@dataclass(frozen=True, slots=True)
class AttachmentLimits:
    count: int  # attachments in a request
    media: Limits
    embedding_dim: int  # D


def take_from_messages(messages: Any, limits: AttachmentLimits) -> list[Attachment]:
    """Remove the attachments from chat messages, in place; their order is kept."""
    if not isinstance(messages, list):
        raise BadRequest("messages must be a list", param="messages")
    taken: list[Attachment] = []
    for index, message in enumerate(messages):
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            where = f"messages[{index}].content"
            kept = _take(message["content"], where, taken, limits)
            message["content"] = _as_text(kept)
    return taken


def take_from_list(parts: Any, limits: AttachmentLimits) -> list[Attachment]:
    """The top-level `attachments` list of /v1/completions."""
    if not isinstance(parts, list):
        raise BadRequest("attachments must be a list of content parts", param="attachments")
    taken: list[Attachment] = []
    kept = _take(parts, "attachments", taken, limits)
    if kept:
        raise BadRequest(
            "attachments holds a text part; the text belongs into prompt", param="attachments"
        )
    return taken


def _take(
    parts: list[Any], where: str, taken: list[Attachment], limits: AttachmentLimits
) -> list[Any]:
    """Append the attachments among `parts` to `taken`; return the parts that stay."""
    kept = []
    for index, part in enumerate(parts):
        param = f"{where}[{index}]"
        if isinstance(part, str):
            kept.append({"type": "text", "text": part})
        elif not isinstance(part, dict):
            raise BadRequest("a content part must be an object with a type", param=param)
        elif _kind(part) in TEXT_PARTS:
            kept.append(part)
        else:
            if len(taken) >= limits.count:
                raise BadRequest(f"more than {limits.count} attachments", param=param)
            taken.append(_read(part, param, limits))
    return kept


def _as_text(parts: list[Json]) -> str | list[Json]:
    """One string, joined as vLLM joins text parts; other parts that stay keep their list."""
    if all(part["type"] == "text" and isinstance(part.get("text"), str) for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _read(part: Json, param: str, limits: AttachmentLimits) -> Attachment:
    kind = _kind(part)
    override = _modality(part, param)
    if kind in URL_PARTS:
        modality = override or URL_PARTS[kind]
        url = _field(part, kind, "url", param)
        data = read_url(url, max_bytes=limits.media.bytes_of(modality), param=param)
    elif kind == "input_audio":
        modality = override or "audio"
        encoded = _field(part, kind, "data", param)
        data = read_base64(encoded, max_bytes=limits.media.bytes_of(modality), param=param)
    elif kind == "file":
        modality, data = _read_file(part, override, param, limits.media)
    elif kind == "imagebind_text":
        modality, data = "text", _read_text(part, param, limits.media.text_bytes)
    elif kind == "imagebind_embedding":
        modality, data = EMBEDDING, _read_embedding(part, param, limits.embedding_dim)
    else:
        raise BadRequest(
            f"unknown content part type {_shown(part.get('type'))}; known: {', '.join(KNOWN)}",
            param=param,
        )
    return Attachment(modality, data, _weight(part, param), param)


def _kind(part: Json) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else ""


def _modality(part: Json, param: str) -> str | None:
    modality = part.get("modality")
    if modality is None or modality in MODALITIES:
        return modality
    raise BadRequest(
        f"unknown modality {_shown(modality)}; known: {', '.join(MODALITIES)}",
        param=f"{param}.modality",
    )


def _weight(part: Json, param: str) -> float:
    weight = part.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise BadRequest("weight must be a number", param=f"{param}.weight")
    if not abs(weight) <= 1e6:  # NaN neither
        raise BadRequest("weight must lie between -1e6 and 1e6", param=f"{param}.weight")
    return float(weight)


def _field(part: Json, kind: str, key: str, param: str) -> str:
    """part[kind][key], or part[kind] where a client sends the value itself."""
    value = part.get(kind)
    if isinstance(value, dict):
        value = value.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{kind} must hold a string {key}", param=f"{param}.{kind}.{key}")
    return value


def _read_file(part: Json, modality: str | None, param: str, limits: Limits) -> tuple[str, bytes]:
    """A file of any kind: what it is, the part says, else its first bytes, else its name."""
    file = part.get("file")
    if isinstance(file, dict) and file.get("file_id") is not None:
        raise BadRequest(
            "file_id is not supported yet; send the file as file_data",
            param=f"{param}.file.file_id",
            code="file_id_not_supported",
        )
    encoded = _field(part, "file", "file_data", param)
    name = file.get("filename") if isinstance(file, dict) else None
    read = read_url if encoded[:5].lower() == "data:" else read_base64
    largest = max(limits.bytes_of(each) for each in ([modality] if modality else MODALITIES))
    data = read(encoded, max_bytes=largest, param=param)
    modality = modality or sniff(data, name if isinstance(name, str) else None)
    if modality is None:
        raise UnsupportedMediaType(
            "the kind of this file is not recognised; the part may say it: modality", param=param
        )
    if len(data) > limits.bytes_of(modality):
        raise TooLarge(f"the file is larger than {limits.bytes_of(modality)} bytes", param=param)
    return modality, data


def _read_text(part: Json, param: str, max_bytes: int) -> bytes:
    text = part["text"] if isinstance(part.get("text"), str) else None
    text = _field(part, "imagebind_text", "text", param) if text is None else text
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        raise BadRequest("the text is not valid Unicode", param=param) from None
    if len(data) > max_bytes:
        raise TooLarge(f"the text is larger than {max_bytes} bytes", param=param)
    return data


def _read_embedding(part: Json, param: str, dim: int) -> bytes:
    """Checked and brought to float32: `dim` finite numbers, not all zero."""
    value = part.get("imagebind_embedding")
    numbers = value.get("data") if isinstance(value, dict) else value
    if isinstance(numbers, str):
        packed = read_base64(numbers, max_bytes=4 * dim, param=param)
        embedding = np.frombuffer(packed, "<f4") if len(packed) == 4 * dim else np.zeros(0)
    elif isinstance(numbers, list) and len(numbers) == dim:
        if not all(type(number) in (int, float) for number in numbers):
            raise BadRequest("an embedding holds numbers only", param=param)
        try:
            embedding = np.asarray(numbers, np.float64)
        except OverflowError:  # an integer that no float can hold
            raise BadRequest("a number of the embedding is too large", param=param) from None
    else:
        embedding = np.zeros(0)
    if embedding.shape != (dim,):
        raise BadRequest(
            f"an embedding is {dim} numbers: a list, or base64 of little-endian float32",
            param=param,
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused next
        embedding = embedding.astype("<f4")
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    if not math.isfinite(length) or length < 1e-6:
        raise BadRequest("an embedding must be finite and not zero", param=param)
    return embedding.tobytes()


def _shown(value: object) -> str:
    """A client's own value in an error message, short whatever it is."""
    return json.dumps(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"
