"""The formats of a transcript: OpenAI's json and verbose_json, plain text, and subtitles."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.api.speech.options import TranscriptionOptions

Json = dict[str, Any]
MEDIA_TYPES = {"json": "application/json", "verbose_json": "application/json", "vtt": "text/vtt"}
PLAIN = "text/plain; charset=utf-8"


@dataclass(slots=True)
class Transcript:
    task: str
    language: str | None = None
    duration: float = 0
    # The times of segments are seconds from the start of the sound.
    segments: list[Json] = field(default_factory=list)

    def add(self, start: float, result: Json) -> None:
        """Add the result of a piece that starts at `start` seconds."""
        self.language = self.language or result["language"]
        self.duration = start + result["duration"]
        self.segments += [moved(segment, start) for segment in result["segments"]]

    @property
    def text(self) -> str:
        return "".join(segment["text"] for segment in self.segments).strip()


def moved(segment: Json, start: float) -> Json:
    """Add `start` seconds to all times of a segment."""
    words = segment["words"]
    if words is not None:
        words = [w | {"start": w["start"] + start, "end": w["end"] + start} for w in words]
    times = {"start": segment["start"] + start, "end": segment["end"] + start, "words": words}
    return segment | times


def render(transcript: Transcript, options: TranscriptionOptions) -> str:
    match options.format:
        case "text":
            return transcript.text + "\n"
        case "srt":
            return "".join(subtitles(transcript.segments, ",", numbered=True))
        case "vtt":
            return "WEBVTT\n\n" + "".join(subtitles(transcript.segments, "."))
        case "verbose_json":
            return json.dumps(verbose(transcript, options))
    return json.dumps({"text": transcript.text, "usage": usage(transcript)})


def verbose(transcript: Transcript, options: TranscriptionOptions) -> Json:
    document: Json = {
        "task": transcript.task,
        "language": transcript.language,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "usage": usage(transcript),
    }
    if options.segments:
        document["segments"] = [
            {name: value for name, value in segment.items() if name != "words"} | {"id": number}
            for number, segment in enumerate(transcript.segments)
        ]
    if options.words:
        document["words"] = [
            word | {"word": word["word"].strip()}
            for segment in transcript.segments
            for word in segment["words"] or ()
        ]
    return document


def usage(transcript: Transcript) -> Json:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def subtitles(segments: Sequence[Json], point: str, *, numbered: bool = False) -> list[str]:
    """Return the blocks of subtitles. Removes line breaks and arrows from texts, because they would
    end a block.
    """
    blocks = []
    for number, segment in enumerate(segments, start=1):
        text = " ".join(segment["text"].split()).replace("-->", "->")
        times = f"{clock(segment['start'], point)} --> {clock(segment['end'], point)}"
        blocks.append(f"{number}\n" * numbered + f"{times}\n{text}\n\n")
    return blocks


def clock(seconds: float, point: str) -> str:
    """Format seconds as HH:MM:SS.mmm, with the given decimal point."""
    total = round(seconds * 1000)
    minutes, milliseconds = divmod(total, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
