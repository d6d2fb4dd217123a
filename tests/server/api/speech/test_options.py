"""The fields of a transcription request."""

import pytest

from server.api.speech.options import TranscriptionOptions
from server.errors import BadRequest

read = TranscriptionOptions.read


def test_absent_fields_have_defaults() -> None:
    assert read({"model": b"whisper-1"}) == TranscriptionOptions()


def test_all_fields_are_read() -> None:
    options = read(
        {
            "response_format": b"verbose_json",
            "language": b"EN",
            "prompt": b"names: Ada",
            "temperature": b"0.4",
            "timestamp_granularities[]": b"word\nsegment",
        }
    )
    assert options == TranscriptionOptions(
        "verbose_json", False, "en", "names: Ada", 0.4, words=True, segments=True
    )
    assert not read(
        {"response_format": b"verbose_json", "timestamp_granularities[]": b"word"}
    ).segments


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": b"xml"}, "response_format"),
        ({"temperature": b"2"}, "temperature"),
        ({"temperature": b"nan"}, "temperature"),
        ({"temperature": b"cold"}, "temperature"),
        ({"stream": b"maybe"}, "stream"),
        ({"stream": b"true", "response_format": b"srt"}, "stream"),
        ({"timestamp_granularities[]": b"word"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": b"letter"}, "timestamp_granularities"),
        ({"prompt": b"\xff"}, "prompt"),
        ({"prompt": b"x" * 5000}, "prompt"),
        ({"include[]": b"logprobs"}, "include[]"),
        ({"beams": b"3"}, "beams"),
    ],
)
def test_errors_name_the_field(fields: dict[str, bytes], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(fields)
    assert caught.value.param == param
