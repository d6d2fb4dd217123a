"""Real processes cut long sounds into pieces at quiet places."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from server.api.speech import pieces as module
from server.api.speech.pieces import Piece, pieces, quietest
from server.encoding.decode.pool import MediaError
from server.encoding.windows import Cutter
from server.media.blob import Blob, MemoryBlob
from server.settings import Settings

RATE = 16_000


class Whole:
    """A fake encoding service, which decodes whole sounds of at most `max_s` seconds."""

    def __init__(self, max_s: float = 1000) -> None:
        self.max_s, self.calls = max_s, 0

    async def decode(self, view: str, modality: str, content: Blob) -> NDArray[np.int16]:
        assert (view, modality) == ("sound", "audio")
        self.calls += 1
        samples, _ = soundfile.read(io.BytesIO(content.head(content.size)), dtype="int16")
        if len(samples) > self.max_s * RATE:
            raise MediaError("too long")
        return np.asarray(samples, np.int16)


def speech(seconds: float) -> NDArray[np.int16]:
    """Make noise with a pause of 0.4 s in every second."""
    noise = np.random.default_rng(0).normal(0, 5000, round(seconds * RATE)).clip(-30000, 30000)
    noise[np.arange(len(noise)) % RATE < 0.4 * RATE] = 0
    return noise.astype(np.int16)


def wav(samples: NDArray[np.int16]) -> MemoryBlob:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return MemoryBlob(file.getvalue())


async def cut(content: MemoryBlob, encoders: Whole) -> list[Piece]:
    cutter = Cutter(Settings(model=Path("unused")))
    return [piece async for piece in pieces(content, "audio", encoders, cutter)]


async def test_a_short_sound_is_one_piece() -> None:
    samples = speech(2)
    (piece,) = await cut(wav(samples), Whole())
    assert (piece.start, piece.whole) == (0, True)
    np.testing.assert_array_equal(piece.samples, samples)


async def test_a_long_sound_is_cut_in_its_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIECE_S", 20)
    monkeypatch.setattr(module, "SEARCH_S", 5)
    monkeypatch.setattr(module, "WINDOW_S", 7)
    samples, encoders = speech(65), Whole()
    parts = await cut(wav(samples), encoders)
    assert encoders.calls == 0, "a file of more than 1 MiB is not decoded as a whole"
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), samples)
    assert len(parts) == 4
    for part in parts[1:]:
        assert part.start == pytest.approx(round(part.start) + 0.2, abs=0.11)
        assert not part.whole


async def test_a_small_file_that_is_long_is_cut() -> None:
    (piece,) = await cut(wav(speech(3)), Whole(max_s=1))
    assert piece.whole
    assert len(piece.samples) == 3 * RATE


async def test_errors_are_those_of_the_file() -> None:
    with pytest.raises(MediaError, match="no sound"):
        await cut(wav(np.zeros(0, np.int16)), Whole())
    with pytest.raises(MediaError, match="25 ms"):
        await cut(wav(np.zeros(100, np.int16)), Whole(max_s=0))


def test_the_quietest_place_is_the_middle_of_a_pause() -> None:
    samples = np.full(30 * RATE, 1000, np.int16)
    samples[15 * RATE : 15 * RATE + RATE // 5] = 0
    assert quietest(samples) == 15 * RATE + RATE // 10
    assert 0 < quietest(np.full(RATE, 7, np.int16)) < RATE
