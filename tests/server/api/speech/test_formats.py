"""The formats of a transcript."""

import json
from typing import Any

from server.api.speech.formats import Transcript, clock, render
from server.api.speech.options import TranscriptionOptions


def segment(text: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "start": start, "end": end, "words": None, "avg_logprob": -0.1} | more


def transcript() -> Transcript:
    whole = Transcript("transcribe")
    words = [{"word": " there.", "start": 0.5, "end": 1.0}]
    first = [segment(" Hello", 0, 1.5), segment(" --> there.", 1.5, 3.25, words=words)]
    whole.add(0, {"language": "en", "duration": 300, "segments": first})
    whole.add(300, {"language": "en", "duration": 2, "segments": [segment(" Bye.", 1, 2)]})
    return whole


def test_pieces_are_joined_with_their_times() -> None:
    whole = transcript()
    assert whole.text == "Hello --> there. Bye."
    assert whole.duration == 302
    assert whole.segments[2]["start"] == 301


def test_subtitles_have_valid_blocks() -> None:
    assert render(transcript(), TranscriptionOptions("srt")) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello\n\n"
        "2\n00:00:01,500 --> 00:00:03,250\n-> there.\n\n"
        "3\n00:05:01,000 --> 00:05:02,000\nBye.\n\n"
    )
    vtt = render(transcript(), TranscriptionOptions("vtt"))
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello\n\n")
    assert clock(3661.0005, ".") == "01:01:01.000"
    assert clock(59.9996, ",") == "00:01:00,000"


def test_text_and_json() -> None:
    assert render(transcript(), TranscriptionOptions("text")) == "Hello --> there. Bye.\n"
    document = json.loads(render(transcript(), TranscriptionOptions()))
    assert document == {
        "text": "Hello --> there. Bye.",
        "usage": {"type": "duration", "seconds": 302},
    }


def test_verbose_json_has_what_was_asked_for() -> None:
    options = TranscriptionOptions("verbose_json", words=True)
    document = json.loads(render(transcript(), options))
    assert [s["id"] for s in document["segments"]] == [0, 1, 2]
    assert "words" not in document["segments"][1]
    assert document["words"] == [{"word": "there.", "start": 0.5, "end": 1.0}]
    assert (document["task"], document["language"]) == ("transcribe", "en")
    only = json.loads(
        render(transcript(), TranscriptionOptions("verbose_json", words=True, segments=False))
    )
    assert "segments" not in only
