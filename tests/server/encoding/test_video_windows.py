"""The cutting of videos into windows: each window has the frames that the encoder would read of a
file with this part of the video.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.video import read_video
from server.encoding.decode.cut_job import CutError
from server.encoding.decode.cut_video import avi_windows, windows_of
from server.encoding.decode.pool import MediaError
from server.encoding.windows import Cutter, Window
from server.media.blob import MemoryBlob
from server.settings import Settings
from tests.server.encoding.test_windows import job, noise
from tests.server.media_files import media

SMALL = PreprocessConfig(image_size=32)


def video(
    frames: int, rate: Fraction | int, codec: str = "ffv1", sound: float = 0, kind: str = "matroska"
) -> bytes:
    """A video of random pictures (64 x 48), with `sound` seconds of noise."""
    dice = np.random.default_rng(1)
    data = io.BytesIO()
    with av.open(data, "w", format=kind) as file:
        stream: Any = file.add_stream(codec, rate=rate) if frames else None
        if frames:
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        track: Any = file.add_stream("pcm_s16le", rate=16_000, layout="mono") if sound else None
        for _ in range(frames):
            coarse = dice.integers(0, 256, (6, 8, 3), np.uint8)
            picture = coarse.repeat(8, 0).repeat(8, 1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if sound:
            samples = (noise(sound).T * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16_000
            file.mux(track.encode(frame))
            file.mux(track.encode())
        if frames:
            file.mux(stream.encode())
    return data.getvalue()


def all_frames(data: bytes) -> list[NDArray[np.uint8]]:
    with av.open(io.BytesIO(data)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def part(frames: list[NDArray[np.uint8]], rate: Fraction | int) -> bytes:
    """A file with these frames, without loss."""
    data = io.BytesIO()
    with av.open(data, "w", format="avi") as file:
        stream: Any = file.add_stream("rawvideo", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr24"
        for picture in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return data.getvalue()


@pytest.mark.parametrize(
    ("seconds", "stride", "rate", "frames"),
    [(2, 1, 10, 45), (1, 1, 10, 27), (4, 3, 10, 75), (2, 2, Fraction(24000, 1001), 110)],
)
def test_a_window_equals_the_file_cut_at_that_place(
    seconds: float, stride: float, rate: Fraction | int, frames: int
) -> None:
    whole = video(frames, rate)
    pictures = all_frames(whole)
    cuts = list(
        avi_windows(
            io.BytesIO(whole), "matroska", job(modality="video", seconds=seconds, stride=stride)
        )
    )
    assert [start for start, _, _ in cuts] == list(np.arange(0, frames / rate, stride))
    for start, end, data in cuts:
        inside = [
            picture
            for number, picture in enumerate(pictures)
            if start - 1e-6 <= number / rate < start + seconds - 1e-6
        ]
        assert end == pytest.approx(min(start + seconds, float(frames / rate)), abs=2e-3)
        expected = read_video(part(inside, rate), SMALL, Limits())
        torch.testing.assert_close(read_video(data, SMALL, Limits()), expected, rtol=0, atol=1e-6)


def test_the_frames_of_a_constant_rate() -> None:
    times = np.stack([np.arange(50) / 10, np.arange(1, 51) / 10], 1)
    chosen = list(windows_of(times, 10, job(seconds=4, stride=2)))
    assert [(each.start, each.end) for each in chosen] == [(0, 4), (2, 5), (4, 5)]
    # Five clips of 2 s: they start at 0, 0.5, 1, 1.5 and 2 s of the window.
    assert chosen[0].clips == ((0, 19), (5, 24), (10, 29), (15, 34), (20, 39))
    assert chosen[2].clips == ((40, 49),)


def test_a_window_without_a_new_frame_has_the_frame_on_the_screen() -> None:
    times = np.array([[0, 5], [5, 10]], float)
    chosen = list(windows_of(times, 0.2, job(seconds=2, stride=2)))
    assert [each.clips for each in chosen] == [((0, 0),)] * 2 + [((1, 1),)] * 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_seconds": 3}, "longer than 3 s"),
        ({"max_windows": 2}, "more than 2 windows"),
        ({"max_window_bytes": 1000}, "use windows of at most 2 s"),
        ({"memory_bytes": 60_000}, "longer stride"),
    ],
    ids=str,
)
def test_a_video_over_a_limit_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(CutError, match=text):
        list(avi_windows(io.BytesIO(video(40, 10)), "matroska", job(modality="video", **values)))


async def collect(data: bytes, modality: str) -> list[Window]:
    cutter = Cutter(Settings(model=Path("m")))
    return [window async for window in cutter.cut(MemoryBlob(data), 2, 1, modality)]


async def test_a_confined_process_cuts_videos_and_their_sound() -> None:
    data = video(25, 10, "mpeg4", sound=2.5)
    windows = await collect(data, "video")
    assert [(each.modality, each.start) for each in windows] == [
        ("video", 0),
        ("video", 1),
        ("video", 2),
    ]
    assert read_video(windows[1].content.head(1 << 24), SMALL, Limits()).shape[0] == 15
    sounds = await collect(data, "audio")
    assert [(each.modality, each.start) for each in sounds] == [
        ("audio", 0),
        ("audio", 1),
        ("audio", 2),
    ]
    assert windows[-1].end == pytest.approx(2.5, abs=0.1)


async def test_a_video_without_pictures_is_cut_as_a_sound() -> None:
    windows = await collect(video(0, 10, sound=1.5), "video")
    assert [(each.modality, each.start) for each in windows] == [("audio", 0), ("audio", 1)]


async def test_the_released_formats_are_read() -> None:
    windows = await collect(media("video_a.mp4"), "video")
    assert windows[0].modality == "video"


@pytest.mark.parametrize("data", [b"\x1a\x45\xdf\xa3no video", video(25, 10)[:300]], ids=len)
async def test_a_damaged_video_is_a_media_error(data: bytes) -> None:
    with pytest.raises(MediaError):
        await collect(data, "video")
