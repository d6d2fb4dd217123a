"""Attachments: the content parts that condition the model, taken out of the request's JSON.

Reads part types and weights; where the bytes come from is `sources.py`'s business, what they hold
`decode.py`'s. Messages are left with text only, which is all that the language model sees of them.
"""

import json
from dataclasses import dataclass
from typing import Any

from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.sniff import sniff
from server.errors import BadRequest, TooLarge, UnsupportedMediaType
from server.media.base64 import read_embedding
from server.media.blob import Blob, MemoryBlob
from server.media.sources import Link, Source, Sources, Upload, bounded

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
    source: Source  # the file, the UTF-8 text, or little-endian float32 numbers (EMBEDDING)
    weight: float
    param: str  # where it is in the request; errors name it


@dataclass(frozen=True, slots=True)
class AttachmentLimits:
    count: int  # attachments in a request
    media: Limits
    embedding_dim: int  # D


def take_from_messages(
    messages: Any,
    limits: AttachmentLimits,
    sources: Sources,
    *,
    where: str = "messages",
    pass_on: frozenset[str] = frozenset(),
) -> list[Attachment]:
    """Remove the attachments from chat messages, in place; their order is kept. Uploads that no
    part refers to come last, as if they stood in the last message of the user. `where` the messages
    stand in the request; `pass_on`: other types of parts that stay, beside texts."""
    if not isinstance(messages, list):
        raise BadRequest(f"{where} must be a list", param=where)
    reader = _Reader(limits, sources, TEXT_PARTS | pass_on)
    for index, message in enumerate(messages):
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            kept = reader.take(message["content"], f"{where}[{index}].content")
            message["content"] = _as_text(kept)
    for upload in sources.unused():
        reader.add_upload(upload)
    return reader.taken


def take_from_list(parts: Any, limits: AttachmentLimits, sources: Sources) -> list[Attachment]:
    """The top-level `attachments` list of /v1/completions."""
    if not isinstance(parts, list):
        raise BadRequest("attachments must be a list of content parts", param="attachments")
    reader = _Reader(limits, sources)
    if reader.take(parts, "attachments"):
        raise BadRequest(
            "attachments holds a text part; the text belongs into prompt", param="attachments"
        )
    return reader.taken


def take_from_input(
    item: Any, param: str, limits: AttachmentLimits, sources: Sources
) -> list[Attachment]:
    """One input of /v1/embeddings: a string, a part, or a list of them. Texts condition, too."""
    parts = item if isinstance(item, list) else [item]
    if not parts or not all(isinstance(part, str | dict) for part in parts):
        raise BadRequest(
            "an input is a string, a content part, or a list of them; not token ids", param=param
        )
    reader = _Reader(limits, sources)
    for index, part in enumerate(parts):
        reader.add(_as_condition(part), f"{param}[{index}]" if item is parts else param)
    return reader.taken


def _as_condition(part: str | Json) -> Json:
    if isinstance(part, str):
        return {"type": "imagebind_text", "text": part}
    return {**part, "type": "imagebind_text"} if _kind(part) in ("text", "input_text") else part


def _as_text(parts: list[Json]) -> str | list[Json]:
    """One string, joined as vLLM joins text parts; other parts that stay keep their list."""
    if all(part["type"] == "text" and isinstance(part.get("text"), str) for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


class _Reader:
    """Collects the attachments of one request."""

    def __init__(
        self, limits: AttachmentLimits, sources: Sources, stay: frozenset[str] = TEXT_PARTS
    ) -> None:
        """`stay`: the types of parts that are no attachments."""
        self.taken: list[Attachment] = []
        self._stay = stay
        self._limits = limits
        self._sources = sources

    def take(self, parts: list[Any], where: str) -> list[Any]:
        """Collect the attachments among `parts`; return the parts that stay."""
        kept = []
        for index, part in enumerate(parts):
            param = f"{where}[{index}]"
            if isinstance(part, str):
                kept.append({"type": "text", "text": part})
            elif not isinstance(part, dict):
                raise BadRequest("a content part must be an object with a type", param=param)
            elif _kind(part) in self._stay:
                kept.append(part)
            else:
                self.add(part, param)
        return kept

    def add(self, part: Json, param: str) -> None:
        self._check_count(param)
        modality, source = self._read(part, param)
        self.taken.append(Attachment(modality, source, _weight(part, param), param))

    def add_upload(self, upload: Upload) -> None:
        self._check_count(upload.field)
        modality, source = self._sniffed(upload.content, upload.filename, None, upload.field)
        self.taken.append(Attachment(modality, source, 1.0, upload.field))

    def _check_count(self, param: str) -> None:
        if len(self.taken) >= self._limits.count:
            raise BadRequest(f"more than {self._limits.count} attachments", param=param)

    def _read(self, part: Json, param: str) -> tuple[str, Source]:
        """A part's modality, and where its bytes are."""
        kind, override, media = _kind(part), _modality(part, param), self._limits.media
        if kind in URL_PARTS:
            modality = override or URL_PARTS[kind]
            url = _field(part, kind, "url", param)
            most = media.bytes_of(modality)
            return modality, self._sources.read(url, max_bytes=most, param=param)
        if kind == "input_audio":
            modality = override or "audio"
            data = _field(part, kind, "data", param)
            most = media.bytes_of(modality)
            return modality, self._sources.read(data, max_bytes=most, param=param, bare=True)
        if kind == "file":
            return self._read_file(part, override, param)
        if kind == "imagebind_text":
            return "text", MemoryBlob(_read_text(part, param, media.text_bytes))
        if kind == "imagebind_embedding":
            dim = self._limits.embedding_dim
            return EMBEDDING, MemoryBlob(read_embedding(part.get(kind), dim, param))
        raise BadRequest(
            f"unknown content part type {_shown(part.get('type'))}; known: {', '.join(KNOWN)}",
            param=param,
        )

    def _read_file(self, part: Json, modality: str | None, param: str) -> tuple[str, Source]:
        """A file of any kind: what it is, the part says, else its first bytes, else its name."""
        file = part.get("file")
        if isinstance(file, dict) and file.get("file_id") is not None:
            stored = self._sources.stored(file["file_id"], param=f"{param}.file.file_id")
            return self._sniffed(stored.content, stored.filename, modality, param)
        data = _field(part, "file", "file_data", param)
        name = file.get("filename") if isinstance(file, dict) else None
        media = self._limits.media
        largest = max(media.bytes_of(each) for each in ([modality] if modality else MODALITIES))
        source = self._sources.read(data, max_bytes=largest, param=param, bare=True)
        if isinstance(source, Link):
            raise BadRequest("file_data holds the file, not a URL", param=param)
        return self._sniffed(source, name if isinstance(name, str) else None, modality, param)

    def _sniffed(
        self, content: Blob, name: str | None, modality: str | None, param: str
    ) -> tuple[str, Source]:
        modality = modality or sniff(content.head(), name)
        if modality is None:
            raise UnsupportedMediaType(
                "the kind of this file is not recognised; the part may say it: modality",
                param=param,
            )
        return modality, bounded(content, self._limits.media.bytes_of(modality), param)


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


def _shown(value: object) -> str:
    """A client's own value in an error message, short whatever it is."""
    return json.dumps(value[:40]) if isinstance(value, str) else f"of type {type(value).__name__}"
