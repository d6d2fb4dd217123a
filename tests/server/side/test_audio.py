"""/v1/audio/transcriptions with real decoding processes and a real small Whisper model."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile

from model_ext.side import SideModel
from tests.server.application import Served, serve
from tests.server.media_files import media
from tests.server.side.served import application
from tests.server.waiting import until
from tests.speech import FACT, WORDS

pytestmark = pytest.mark.asyncio(loop_scope="package")
PATH = "/v1/audio/transcriptions"


@pytest_asyncio.fixture(loop_scope="package")
async def served(encoding: Path, whisper: SideModel) -> AsyncIterator[Served]:
    async with application(encoding, {"speech": whisper}) as served:
        yield served


async def send(served: Served, data: bytes, name: str = "a.flac", **fields: str) -> Any:
    return await served.client.post(
        PATH, files={"file": (name, data)}, data={"model": "whisper-1", **fields}
    )


def has_words(text: str) -> bool:
    return set(WORDS) <= set(text.lower().replace(".", "").replace(",", "").split())


async def test_openais_client_gets_every_format(served: Served) -> None:
    client = openai.AsyncOpenAI(
        base_url="http://test/v1", api_key="any", http_client=served.client, max_retries=0
    )
    create = client.audio.transcriptions.create
    plain = await create(model="whisper-1", file=FACT)
    assert has_words(plain.text)
    assert plain.text == (await create(model="w", file=FACT, response_format="text")).strip()  # type: ignore[attr-defined]
    verbose = await create(
        model="whisper-1",
        file=FACT,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert verbose.text == plain.text
    assert verbose.duration == pytest.approx(3.1, abs=0.1)
    assert verbose.segments
    assert verbose.words
    assert verbose.words[0].start < verbose.words[-1].end <= 3.2
    srt: Any = await create(model="whisper-1", file=FACT, response_format="srt")
    assert srt.startswith("1\n00:00:0")
    events = [each async for each in await create(model="whisper-1", file=FACT, stream=True)]
    assert [each.type for each in events[-1:]] == ["transcript.text.done"]
    deltas = [each.delta for each in events if each.type == "transcript.text.delta"]
    assert "".join(deltas) == events[-1].text == plain.text  # type: ignore[union-attr]


async def test_silence_is_an_empty_text(served: Served) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000), 16_000, format="WAV")
    response = await send(served, file.getvalue(), "a.wav")
    assert response.json()["text"] == ""
    assert (await send(served, file.getvalue(), response_format="vtt")).text == "WEBVTT\n\n"


@pytest.mark.parametrize(
    ("data", "fields", "status", "param"),
    [
        (media("img_a.jpg"), {}, 415, "file"),
        (b"not a sound", {}, 415, "file"),
        (b"", {}, 400, "file"),
        (b"fLaC damaged", {}, 400, "file"),
        (media("video_a.mp4"), {}, 400, "file"),
        (FACT.read_bytes(), {"response_format": "xml"}, 400, "response_format"),
        (FACT.read_bytes(), {"language": "xx"}, 400, "file"),
    ],
)
async def test_errors_name_the_field(
    served: Served, data: bytes, fields: dict[str, str], status: int, param: str
) -> None:
    response = await send(served, data, "any", **fields)
    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param
    if not fields and status == 400 and data:
        streamed = await send(served, data, "any", stream="true")
        assert json.loads(streamed.text.removeprefix("data: "))["error"]["param"] == param


async def test_a_request_without_a_file_and_an_english_model_that_translates(
    served: Served,
) -> None:
    response = await served.client.post(PATH, files={"other": ("a", b"x")})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "file")
    files = {"file": ("a.flac", FACT.read_bytes())}
    translated = await served.client.post("/v1/audio/translations", files=files)
    assert translated.status_code == 400
    assert "English only" in translated.json()["error"]["message"]


async def test_without_a_speech_model_the_error_names_the_flag() -> None:
    response = await send(serve(), FACT.read_bytes())
    assert response.status_code == 400
    assert "--speech-model" in response.json()["error"]["message"]


async def test_a_killed_speech_model_is_503(encoding: Path) -> None:
    async with application(encoding, {"speech": None}) as served:
        await until(lambda: not served.components.sides["speech"].up)
        response = await send(served, FACT.read_bytes())
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "speech_unavailable"
