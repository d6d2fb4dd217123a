import math
import random
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.av_video import AvVideo
from model_ext.imagebind.preprocess.clips import clip_frames
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.video import _read, read_video, resize, three_crops
from tests.model_ext.imagebind.preprocess.broken import bits_flipped, cut_off
from tests.model_ext.imagebind.preprocess.containers import avi, grey_frames, jpeg, matroska

ROOT = Path(__file__).parents[4]
SMALL = PreprocessConfig(image_size=32)


def test_released_video(
    media: Path, golden_inputs: dict[str, Tensor], config: PreprocessConfig
) -> None:
    video = read_video((media / "video_a.mp4").read_bytes(), config, Limits())
    assert video.dtype == torch.float32
    assert video.shape == (15, 3, 2, 224, 224)
    torch.testing.assert_close(
        video[..., ::8, ::8], golden_inputs["video_a.mp4/sub8"], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        video.mean((-1, -2)), golden_inputs["video_a.mp4/mean"], rtol=0, atol=1e-5
    )


def frames_by_ticks(pts: list[int], end: int, base: Fraction) -> list[list[int]]:
    """Select the frames of each clip by the definition: ceil(start/tb) <= pts < ceil(end/tb).

    `pts` are the integer timestamps of a container, and tb is its time base, `base`.
    """
    duration = end * base
    clips = []
    for clip in range(5):
        start = clip * max(duration - 2, Fraction(0)) / 4
        first, stop = math.ceil(start / base), math.ceil((start + 2) / base)
        clips.append([number for number, tick in enumerate(pts) if first <= tick < stop])
    return clips


def as_decord_tells(pts: list[int], end: int, base: Fraction) -> np.ndarray:
    """Return the start and end of all frames in seconds, rounded to float32 as by decord."""
    seconds = [float(tick * base) for tick in [*pts, end]]
    return np.array(list(pairwise(seconds)), np.float32).astype(np.float64)


@pytest.mark.parametrize(
    "rate",
    [
        *(Fraction(rate) for rate in (10, 15, 25, 30, 60)),
        *(Fraction(25, 2), Fraction(30000, 1001), Fraction(24000, 1001)),
    ],
    ids=str,
)
def test_constant_rates_choose_the_exact_frames(rate: Fraction) -> None:
    dice = random.Random(0)
    for count in [*range(1, 200), *(dice.randrange(200, int(600 * rate)) for _ in range(8))]:
        pts = list(range(count))
        chosen = clip_frames(as_decord_tells(pts, count, 1 / rate), float(rate))
        assert [list(clip) for clip in chosen] == frames_by_ticks(pts, count, 1 / rate), count


def test_variable_rates_choose_the_exact_frames() -> None:
    """Clips have the right frames for random timestamps in whole milliseconds, as in Matroska and
    WebM.
    """
    dice, base = random.Random(0), Fraction(1, 1000)
    for _ in range(300):
        count = dice.randrange(30, 1000)
        steps = [dice.randrange(1, 2 * 600_000 // count) for _ in range(count)]
        ticks = [0, *np.cumsum(steps).tolist()]
        pts, end = ticks[:-1], ticks[-1]
        if end > 600_000:
            continue
        expected = frames_by_ticks(pts, end, base)
        if not all(expected):
            continue  # Another test covers clips in which no frame starts.
        chosen = clip_frames(as_decord_tells(pts, end, base), 30.0)
        assert [list(clip) for clip in chosen] == expected


@pytest.mark.parametrize("fps", [0.0, math.nan, math.inf])
def test_a_rate_that_makes_no_sense_is_not_used(fps: float) -> None:
    pts = list(range(40))
    chosen = clip_frames(as_decord_tells(pts, 40, Fraction(1, 10)), fps)
    assert [clip[0] for clip in chosen] == [0, 5, 10, 15, 20]


def test_at_low_rates_a_clip_shows_the_frame_on_the_screen() -> None:
    times = as_decord_tells([0, 5, 10, 15], 20, Fraction(1))  # A frame starts every 5 s.
    # The clips start at 0, 4.5, 9, 13.5 and 18 s. No frame starts in the last clip.
    assert [list(clip) for clip in clip_frames(times, 0.2)] == [[0], [1], [2], [3], [3]]


def shown(video: Tensor) -> list[list[int]]:
    """Return 15 lists of T frame numbers, which are the grey levels in (15, 3, T, S, S)."""
    levels = (video.transpose(1, 2) * STD[:, None, None] + MEAN[:, None, None]).mean((2, 3, 4))
    return [[round(level / 2) for level in row] for row in (levels * 255).tolist()]


def test_avi_of_constant_rate() -> None:
    video = read_video(avi(grey_frames(40), 10), SMALL, Limits())
    assert shown(video)[::3] == [[0, 19], [5, 24], [10, 29], [15, 34], [20, 39]]
    assert shown(video)[0::3] == shown(video)[1::3] == shown(video)[2::3]


def test_matroska_of_variable_rate_that_starts_late() -> None:
    times = [5000 + (100 * n if n < 20 else 2000 + 50 * (n - 20)) for n in range(41)]
    video = read_video(matroska(grey_frames(41), times, 8150), SMALL, Limits())
    # The video lasts 3.1 s, and its clips start at 0, 0.275, 0.55, 0.825 and 1.1 s.
    assert shown(video)[::3] == [[0, 19], [3, 25], [6, 30], [9, 36], [11, 40]]


def test_shorter_than_a_clip() -> None:
    video = read_video(avi(grey_frames(7), 10), SMALL, Limits())
    assert shown(video) == [[0, 6]] * 15
    assert shown(read_video(avi(grey_frames(1), 10), SMALL, Limits())) == [[0, 0]] * 15


def test_another_number_of_frames() -> None:
    config = PreprocessConfig(image_size=16, frames=3)
    video = read_video(avi(grey_frames(20), 10), config, Limits())
    assert video.shape == (15, 3, 3, 16, 16)
    assert shown(video)[0] == [0, 9, 19]


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(180, 320, (64, 113)), (320, 180, (113, 64)), (90, 90, (64, 64)), (48, 50, (64, 66))],
)
def test_resize_truncates_the_longer_side(height: int, width: int, shape: tuple[int, int]) -> None:
    frames = torch.full((2, height, width, 3), 255, dtype=torch.uint8)
    resized = resize(frames, 64, Limits())
    assert resized.shape == (2, 3, *shape)
    assert torch.equal(resized, torch.ones_like(resized))


def test_resize_interpolates_between_two_pixels_only() -> None:
    """`resize` to a quarter uses only the middle two of four pixels (no antialiasing)."""
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    frames[:, ::4] = 200  # rows that are not among the middle two of four
    assert torch.equal(resize(frames, 16, Limits()), torch.zeros(1, 3, 16, 16))


def test_crops_lie_along_the_longer_side() -> None:
    wide = torch.arange(4 * 9.0).reshape(1, 1, 4, 9).expand(2, 3, 4, 9)
    starts = [crop[0, 0, 0, 0].item() for crop in three_crops(wide, 4)]
    assert starts == [0, 3, 5]  # the middle crop starts at 2.5, rounded up
    tall = [crop[0, 0, 0, 0].item() for crop in three_crops(wide.transpose(2, 3), 4)]
    assert tall == [0, 3, 5]
    square = three_crops(wide[..., :4], 4)
    assert all(torch.equal(crop, wide[..., :4]) for crop in square)


def test_crops_of_a_file_go_from_left_to_right() -> None:
    picture = Image.new("RGB", (96, 32), "black")
    picture.paste("white", (64, 0, 96, 32))
    video = read_video(avi([jpeg(picture)] * 20, 10, size=(96, 32)), SMALL, Limits())
    bright = (video[:3, 0] * STD[0] + MEAN[0]).mean((1, 2, 3))
    torch.testing.assert_close(bright, torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(video_seconds=3), "longer than 3 s"),
        (Limits(video_frames=39), "more than 39 frames"),
        (Limits(video_pixels=64 * 48 - 1), "more than 3071 pixels"),
    ],
)
def test_limits(limits: Limits, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        read_video(avi(grey_frames(40), 10), SMALL, limits)


def test_a_line_of_pixels_does_not_become_a_huge_picture(config: PreprocessConfig) -> None:
    frames = grey_frames(10, width=16_000, height=1)
    with pytest.raises(DecodeError, match="long and narrow"):
        read_video(avi(frames, 10, size=(16_000, 1)), config, Limits())


HOSTILE = {
    "concat": b"ffconcat version 1.0\nfile '%s'\n",
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n",
    "dash": b"<?xml version='1.0'?><MPD><BaseURL>%s</BaseURL></MPD>",
    "url": b"file://%s",
    "path": b"%s",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_name_other_files_never_reach_the_decoder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: PreprocessConfig
) -> None:
    """The reader rejects a playlist, because FFmpeg would open the files in the playlist."""
    secret = tmp_path / "secret.avi"
    secret.write_bytes(avi(grey_frames(5), 10))
    monkeypatch.setattr(decord, "VideoReader", lambda *_, **__: pytest.fail("was opened"))
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(DecodeError, match=r"playlist|XML|unknown format"):
        read_video(HOSTILE[kind].replace(b"%s", bytes(secret)), config, Limits())


def test_pyav_opens_a_file_once_for_all_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the reader opened the file again for each clip."""
    calls, open_file = [], av.open

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return open_file(*arguments, **options)

    monkeypatch.setattr(av, "open", counting)
    data = avi(grey_frames(40), 10)
    video = _read(AvVideo(data, "avi", Limits()), SMALL, Limits())
    assert len(calls) == 2  # opened once for the times, once for the frames
    assert shown(video)[::3] == [[0, 19], [5, 24], [10, 29], [15, 34], [20, 39]]


def test_no_picture_in_the_file_is_an_error(media: Path, config: PreprocessConfig) -> None:
    sound = b"RIFF\x00\x01\x00\x00AVI " + (media / "audio_b.wav").read_bytes()
    with pytest.raises(DecodeError, match="damaged"):
        read_video(sound, config, Limits())


def in_a_child(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Decode files in a child process, which may crash, and return the result of each file."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    child = subprocess.run(
        [sys.executable, "-m", "tests.model_ext.imagebind.preprocess.decode_child"]
        + [str(folder / name) for name in files],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    answers = dict(line.split("\t") for line in child.stdout.splitlines())
    assert child.returncode == 0, f"crashed after {list(answers)[-1:]}"
    return answers


def test_broken_files_give_frames_or_a_decode_error(media: Path, tmp_path: Path) -> None:
    mp4 = (media / "video_a.mp4").read_bytes()
    small = avi(grey_frames(12), 10)
    mkv = matroska(grey_frames(12), [100 * n for n in range(12)], 1200)
    broken = [*cut_off(mp4), *bits_flipped(mp4, 8), *cut_off(small), *bits_flipped(small, 40)]
    broken += [*cut_off(mkv), *bits_flipped(mkv, 40)]
    answers = in_a_child(tmp_path, {f"{n:03}": data for n, data in enumerate(broken)})
    assert len(answers) == len(broken)
    assert all(answer == "frames" or answer.startswith("the video") for answer in answers.values())
    assert len(set(answers.values())) > 1


def test_files_cannot_make_the_decoder_read_beyond_their_end(media: Path, tmp_path: Path) -> None:
    """Regression: decord read beyond the end of a damaged file's bytes object.

    It crashed, or decoded other memory.
    """
    mp4, small = (media / "video_a.mp4").read_bytes(), avi(grey_frames(12), 10)
    files = {}
    table = mp4.index(b"stco")
    assert mp4[table + 8 : table + 12] == b"\x00\x00\x00\x01"
    for far in (len(mp4) + 100, 2**20, 2**31, 2**32 - 1):
        files[f"chunk at {far}"] = mp4[: table + 12] + far.to_bytes(4, "big") + mp4[table + 16 :]
    index, movi = small.index(b"idx1"), small.index(b"movi")
    for size in (2**16, 2**24, 2**31):
        at = size.to_bytes(4, "little")
        files[f"index of {size}"] = small[: index + 4] + at + small[index + 8 :]
        files[f"list of {size}"] = small[: movi - 4] + at + small[movi:]
    answers = in_a_child(tmp_path, files)
    assert len(answers) == len(files)
    assert all(answers[name].startswith("the video") for name in files if "chunk" in name)
