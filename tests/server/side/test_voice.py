"""/v1/audio/speech with the real voice. The real speech model must recognize the spoken words."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model_ext import voice
from model_ext.side import Cancelled, SideData, Task
from tests.server.application import Served, serve
from tests.server.side.served import application
from tests.speech import FACT, samples_of

TEXT = "The meeting is on Tuesday at noon in room seven."
PATH = "/v1/audio/speech"


@pytest.fixture(scope="module")
def model() -> voice.Voice:
    return voice.load()


@pytest.fixture
async def served(tmp_path: Path, model: voice.Voice) -> AsyncIterator[Served]:
    async with application(tmp_path, {"voice": model}) as served:
        yield served


async def speak(served: Served, **fields: Any) -> Any:
    body = {"model": "tts-1", "voice": "alloy", "input": TEXT, **fields}
    return await served.client.post(PATH, json=body)


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        ("mp3", "MP3", "mpeg"),
        ("opus", "OGG", "ogg"),
        ("flac", "FLAC", "flac"),
        ("wav", "WAV", "wav"),
    ],
)
async def test_every_format_can_be_read(
    served: Served, name: str, kind: str, media_type: str
) -> None:
    response = await speak(served, response_format=name)
    assert response.headers["content-type"] == f"audio/{media_type}"
    with soundfile.SoundFile(io.BytesIO(response.content)) as file:
        assert (file.format, file.channels, file.samplerate) == (kind, 1, 24_000)
        assert file.frames / file.samplerate == pytest.approx(3.2, abs=0.2)


async def test_the_default_is_mp3_and_pcm_has_no_header(served: Served) -> None:
    assert (await speak(served)).headers["content-type"] == "audio/mpeg"
    raw = await speak(served, response_format="pcm", speed=2)
    wav = await speak(served, response_format="wav", speed=2)
    samples, _ = soundfile.read(io.BytesIO(wav.content), dtype="int16")
    np.testing.assert_allclose(np.frombuffer(raw.content, "<i2"), samples, atol=2)
    assert len(samples) < 2 * 24_000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"speed": 9}, "input"),
        ({"response_format": "aac"}, "response_format"),
        ({"input": 3}, "input"),
        ({"stream_format": "sse"}, "stream_format"),
    ],
)
async def test_errors_name_the_field(served: Served, fields: dict[str, Any], param: str) -> None:
    response = await speak(served, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_without_a_voice_the_error_names_the_flag() -> None:
    response = await speak(serve())
    assert response.status_code == 400
    assert "--voice" in response.json()["error"]["message"]


def test_the_fixture_was_spoken_by_this_voice_and_texts_repeat_exactly(model: voice.Voice) -> None:
    def spoken() -> np.ndarray:
        (result,) = model.run([Task(SideData({"text": TEXT, "speed": 1.0}))])
        return np.asarray(result.arrays["samples"])

    first = spoken()
    np.testing.assert_array_equal(first, spoken())
    assert len(first) / 24_000 == pytest.approx(len(samples_of(FACT)) / 16_000, abs=0.01)


def test_a_long_word_is_read_in_parts_and_a_cancelled_task_stops(model: voice.Voice) -> None:
    task = Task(SideData({"text": "supercalifragilistic" * 60, "speed": 2.0}))
    (result,) = model.run([task])
    assert len(result.arrays["samples"]) > 12_000
    task.cancelled = True
    with pytest.raises(Cancelled):
        model.run([task])
