"""The speech expert: it transcribes sounds with Whisper (faster-whisper, extra `speech`).

A task's array `samples` is (N,) int16, one channel at 16 kHz. Its document has the options of
`Request`. Emits each segment of the transcript when it is ready. The result has all segments.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from model_ext.errors import ConfigError
from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled

RATE = 16_000
FILES = ("model.bin", "config.json", "tokenizer.json")
MiB = 1 << 20
# GPU memory for the activations of one window. The weights need more memory beside this.
GPU_ACTIVATIONS = 1024 * MiB
MAX_PROMPT = 2000  # characters of the prompt; Whisper reads its last 223 tokens


@dataclass(frozen=True, slots=True)
class Request:
    """The options of a task, as faster-whisper names them."""

    language: str | None = None  # None: Whisper detects the language.
    task: str = "transcribe"  # "transcribe", or "translate" to English.
    prompt: str = ""
    temperature: float | None = None  # None: faster-whisper tries increasing temperatures.
    words: bool = False  # Whether segments have the times of words.

    @classmethod
    def of(cls, document: Json) -> "Request":
        try:
            return cls(**document)
        except TypeError:
            raise TaskError("unknown option of a transcription") from None


class Speech:
    max_batch = 1

    def __init__(self, model: WhisperModel, device: str, gpu_bytes: int) -> None:
        self.device, self.gpu_bytes = device, gpu_bytes
        self._model = model

    def kind(self, document: Json) -> Hashable:
        """Check the options of a task. Raises TaskError: when an option is invalid."""
        request = Request.of(document)
        languages = self._model.supported_languages
        if request.language is not None and request.language not in languages:
            raise TaskError(
                f"the speech model does not have this language; it has {', '.join(languages)}"
            )
        if request.task == "translate" and languages == ["en"]:
            raise TaskError("the speech model has English only, so it translates nothing")
        if len(request.prompt) > MAX_PROMPT:
            raise TaskError(f"the prompt has more than {MAX_PROMPT} characters")
        return request

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        return [self._transcribe(task) for task in tasks]

    def _transcribe(self, task: Task) -> SideData:
        samples = task.data.arrays["samples"].astype(np.float32) / 32768
        stop_if_cancelled([task])
        segments, language = [], None
        if len(samples):
            transcript, info = self._model.transcribe(
                samples, **options(Request.of(task.data.document))
            )
            language = info.language
            for segment in transcript:
                stop_if_cancelled([task])
                part = describe(segment)
                task.emit(part)
                segments.append(part)
        return SideData(
            {"language": language, "duration": len(samples) / RATE, "segments": segments}
        )


def options(request: Request) -> dict[str, Any]:
    """The arguments of `WhisperModel.transcribe`.

    The voice activity filter removes silence and most music, because Whisper invents words there.
    The previous text is not used as a prompt, so that Whisper does not repeat an invented sentence.
    """
    chosen: dict[str, Any] = {
        "language": request.language,
        "task": request.task,
        "initial_prompt": request.prompt or None,
        "word_timestamps": request.words,
        "vad_filter": True,
        "condition_on_previous_text": False,
    }
    if request.temperature is not None:
        chosen["temperature"] = request.temperature
    return chosen


def describe(segment: Any) -> Json:
    """A segment in JSON, with the keys of OpenAI's verbose_json."""
    words = None
    if segment.words is not None:
        words = [
            {"word": each.word, "start": float(each.start), "end": float(each.end)}
            for each in segment.words
        ]
    fields = dataclasses.asdict(segment) | {"words": words}
    return {name: plain(value) for name, value in fields.items()}


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def load(folder: str, device: str = "auto", threads: int = 0) -> Speech:
    """Load a Whisper model in CTranslate2's format. `threads`: the number of CPU threads; 0 means
    CTranslate2's default.

    Raises ConfigError: when the folder has no such model.
    """
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise ConfigError(f"{folder}: not a Whisper model of CTranslate2 (no {missing[0]})")
    try:
        model = WhisperModel(folder, device=device, cpu_threads=threads, local_files_only=True)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    on = str(model.model.device)
    size = (Path(folder) / "model.bin").stat().st_size
    return Speech(model, on, 2 * size + GPU_ACTIVATIONS if on == "cuda" else 0)
