"""The fields of a request to /v1/audio/transcriptions and /v1/audio/translations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from server.errors import BadRequest

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = frozenset({"segment", "word"})
TRUE, FALSE = ("true", "1"), ("false", "0", "")
FIELDS = frozenset(
    {"model", "language", "prompt", "response_format", "temperature", "stream"}
    | {"timestamp_granularities[]", "timestamp_granularities", "include[]", "chunking_strategy"}
)
MAX_TEXT = 4000  # maximum number of bytes of one field


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    format: str = "json"
    stream: bool = False
    language: str | None = None
    prompt: str = ""
    temperature: float | None = None
    words: bool = False
    segments: bool = True  # whether the format verbose_json includes the segments

    @classmethod
    def read(cls, fields: Mapping[str, bytes]) -> "TranscriptionOptions":
        """Read the form's fields. Raises BadRequest that names the field."""
        for name, value in fields.items():
            if name not in FIELDS:
                raise BadRequest(f"expected one of {', '.join(sorted(FIELDS))}", param=name)
            if len(value) > MAX_TEXT:
                raise BadRequest(f"the field has more than {MAX_TEXT} bytes", param=name)
        if text(fields, "include[]"):
            raise BadRequest("log-probabilities are not available", param="include[]")
        granularities = read_granularities(fields)
        options = cls(
            format=choice(fields, "response_format", FORMATS),
            stream=flag(fields, "stream"),
            language=text(fields, "language").lower() or None,
            prompt=text(fields, "prompt"),
            temperature=temperature(fields),
            words="word" in granularities,
            segments="segment" in granularities,
        )
        if options.stream and options.format not in ("json", "text"):
            raise BadRequest("stream needs the response_format json or text", param="stream")
        if "word" in granularities and options.format != "verbose_json":
            param = "timestamp_granularities"
            raise BadRequest("times of words need the response_format verbose_json", param=param)
        return options


def text(fields: Mapping[str, bytes], name: str) -> str:
    try:
        return fields.get(name, b"").decode().strip()
    except UnicodeDecodeError:
        raise BadRequest("the field is not UTF-8", param=name) from None


def choice(fields: Mapping[str, bytes], name: str, values: tuple[str, ...]) -> str:
    value = text(fields, name) or values[0]
    if value not in values:
        raise BadRequest(f"expected one of {', '.join(values)}", param=name)
    return value


def flag(fields: Mapping[str, bytes], name: str) -> bool:
    value = text(fields, name).lower()
    if value not in TRUE + FALSE:
        raise BadRequest("expected true or false", param=name)
    return value in TRUE


def temperature(fields: Mapping[str, bytes]) -> float | None:
    """Return the temperature, from 0 to 1. Returns None for 0, with which the model raises the
    temperature if its text repeats.
    """
    value = text(fields, "temperature")
    try:
        number = float(value or 0)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise BadRequest("expected a number from 0 to 1", param="temperature")
    return number or None


def read_granularities(fields: Mapping[str, bytes]) -> frozenset[str]:
    name = "timestamp_granularities"
    values = frozenset((text(fields, f"{name}[]") + "\n" + text(fields, name)).split())
    if not values <= GRANULARITIES:
        raise BadRequest(f"expected {' or '.join(sorted(GRANULARITIES))}", param=name)
    return values or frozenset({"segment"})
