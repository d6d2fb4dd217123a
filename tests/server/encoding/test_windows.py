"""The cutting of sounds into windows, in real cutting processes."""

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from server.context import RequestContext, entered
from server.encoding.decode.cut_job import CutError, CutJob
from server.encoding.decode.cut_sound import cut, read_with_libsndfile
from server.encoding.decode.pool import MediaError
from server.encoding.windows import Cutter, Window
from server.errors import Unavailable
from server.media.blob import DiskBlob, MemoryBlob
from server.settings import Settings

RATE = 16_000


def noise(seconds: float, channels: int = 1) -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    return generator.uniform(-0.5, 0.5, (round(seconds * RATE), channels)).astype(np.float32)


def encoded(samples: NDArray[np.float32], kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind)
    return file.getvalue()


def flac(samples: NDArray[np.float32]) -> bytes:
    return encoded(samples, "FLAC")


def job(**values: Any) -> CutJob:
    defaults = {
        **{"modality": "audio", "seconds": 2, "stride": 1, "max_seconds": 100, "max_windows": 100},
        **{"frames": 2, "max_pixels": 1 << 20, "max_window_bytes": 1 << 24},
        **{
            "max_channels": 2,
            "max_rate": 48_000,
            "max_samples": 100_000,
            "memory_bytes": 1 << 30,
            "cpu_s": 5,
        },
    }
    return CutJob(**(defaults | values))


def windows(samples: NDArray[np.float32], **values: Any) -> list[tuple[float, int]]:
    """Check the samples of the windows, and return (start in s, number of samples) of each."""
    with soundfile.SoundFile(io.BytesIO(flac(samples))) as file:
        cuts = list(cut(read_with_libsndfile(file), job(**values)))
    whole, _ = soundfile.read(io.BytesIO(flac(samples)), dtype="float32", always_2d=True)
    for first, part in cuts:
        np.testing.assert_array_equal(part, whole[first : first + len(part)])
    return [(first / RATE, len(part)) for first, part in cuts]


def test_windows_overlap_and_the_last_is_shorter() -> None:
    assert windows(noise(3.5)) == [(0, 32_000), (1, 32_000), (2, 24_000), (3, 8_000)]


def test_a_stride_longer_than_a_window_skips_sound() -> None:
    assert windows(noise(20, 2), seconds=1, stride=9) == [(0, RATE), (9, RATE), (18, RATE)]


def test_an_end_shorter_than_25_ms_is_no_window() -> None:
    assert windows(noise(2.01), seconds=1, stride=1) == [(0, RATE), (1, RATE)]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_seconds": 3}, "longer than 3 s"),
        ({"max_windows": 2}, "more than 2 windows"),
        ({"max_channels": 1}, "more than 1 channels"),
        ({"max_samples": 63_999}, "more than 63999 samples"),
    ],
    ids=str,
)
def test_a_sound_over_a_limit_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(CutError, match=text):
        windows(noise(4, 2), **values)


async def collect(cutter: Cutter, data: MemoryBlob | DiskBlob) -> list[Window]:
    return [window async for window in cutter.cut(data, 2, 1)]


async def test_a_process_returns_wav_files() -> None:
    samples = noise(2.5)
    found = await collect(Cutter(Settings(model=Path("m"))), MemoryBlob(flac(samples)))
    assert [(window.start, window.end) for window in found] == [(0, 2), (1, 2.5), (2, 2.5)]
    part, rate = soundfile.read(io.BytesIO(found[1].content.head(1 << 20)), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(part, samples[RATE:, 0], atol=1e-4)


@pytest.mark.parametrize("kind", ["WAV", "OGG", "MP3"])
async def test_a_confined_process_reads_each_format(kind: str) -> None:
    """The cutting process cannot open files, so libsndfile must not load a library or table while
    it reads.
    """
    data = MemoryBlob(encoded(noise(1.5), kind))
    found = await collect(Cutter(Settings(model=Path("m"))), data)
    assert [window.start for window in found] == [0, 1]


@pytest.mark.parametrize("data", [b"no sound", flac(noise(1))[:40], flac(noise(0.01))], ids=len)
async def test_a_damaged_sound_is_a_media_error(data: bytes) -> None:
    with pytest.raises(MediaError):
        await collect(Cutter(Settings(model=Path("m"))), MemoryBlob(data))


async def test_more_files_than_allowed_are_rejected_at_once() -> None:
    cutter = Cutter(Settings(model=Path("m"), window_files=1))
    running = cutter.cut(MemoryBlob(flac(noise(3))), 1, 1)
    await anext(running)
    with pytest.raises(Unavailable):
        await collect(cutter, MemoryBlob(b""))
    await running.aclose()
    assert len(await collect(cutter, MemoryBlob(flac(noise(1))))) == 1


async def test_one_client_gets_half_of_the_places() -> None:
    cutter, sound = Cutter(Settings(model=Path("m"), window_files=2)), MemoryBlob(flac(noise(3)))
    with entered(RequestContext(b"", address="10.0.0.1")):
        running = cutter.cut(sound, 1, 1)
        await anext(running)
        with pytest.raises(Unavailable):
            await collect(cutter, sound)
    with entered(RequestContext(b"", address="10.0.0.2")):
        assert len(await collect(cutter, sound)) == 3
    await running.aclose()


def test_a_cutting_process_imports_only_what_its_job_needs() -> None:
    """FFmpeg's libraries and asyncio almost double the memory of the process."""
    code = "import sys, server.encoding.decode.cutter as c; print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"av", "asyncio", "torch"} & set(ast.literal_eval(done.stdout))
