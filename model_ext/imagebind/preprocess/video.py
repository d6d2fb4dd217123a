"""Decode video files into 5 clips x 3 crops of normalised frames (15, 3, 2, 224, 224).

The library decord (FFmpeg) reads mp4/mov, matroska/webm, avi and mpegts from memory, after
`container.py` has checked the signature.
Shapes: T frames of a clip, S size of a crop.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import decord
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.container import is_video
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.limits import Limits

CLIPS = 5
CLIP_SECONDS = 2

DAMAGED = "the video is damaged or not mp4, mov, matroska, webm, avi or mpegts"


def read_video(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode a video to (15, 3, T, S, S) float32: clip after clip, three crops of each clip."""
    if not is_video(data):
        raise DecodeError(DAMAGED)
    video, times, fps = _open(data, limits)
    crops = []
    for clip in clip_frames(times, fps):
        picked = torch.linspace(0, len(clip) - 1, config.frames).long()
        frames = _decode(video, [clip[index] for index in picked], limits)
        crops += three_crops(resize(frames, config.image_size, limits), config.image_size)
    normalized = (torch.stack(crops) - MEAN[:, None, None]) / STD[:, None, None]
    return normalized.transpose(1, 2).contiguous()


def clip_frames(times: NDArray[np.float64], fps: float) -> list[range]:
    """Return the indices of the frames of each 2 s clip.

    `times` (frames, 2) has the start and end of each frame in seconds, from 0.

    Clips are evenly spaced and the last one ends with the video. A frame belongs to the clip in
    which it starts. decord's times are float32, so an exact comparison would choose wrong frames
    near the start or the end of a clip. For a constant frame rate this function computes in
    rational numbers, else with a tolerance.
    """
    count, duration = len(times), Fraction(float(times[-1, 1]))
    tolerance = 2e-7 * float(duration) + 1e-6
    rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)
    if rate > 0 and np.abs(times[:, 0] - np.arange(count) / float(rate)).max() <= tolerance:
        bounds = [
            (math.ceil(start * rate), math.ceil((start + CLIP_SECONDS) * rate))
            for start in clip_starts(count / rate)
        ]
    else:
        bounds = [
            (
                int(np.searchsorted(times[:, 0], float(start) - tolerance)),
                int(np.searchsorted(times[:, 0], float(start) + CLIP_SECONDS - tolerance)),
            )
            for start in clip_starts(duration)
        ]
    return [_at_least_one(first, min(stop, count)) for first, stop in bounds]


def clip_starts(duration: Fraction) -> list[Fraction]:
    return [i * max(duration - CLIP_SECONDS, Fraction(0)) / (CLIPS - 1) for i in range(CLIPS)]


def resize(frames: Tensor, size: int, limits: Limits) -> Tensor:
    """Resize the shorter side to `size`: 8-bit frames (T, H, W, 3) -> (T, 3, h, w) in 0..1.

    Bilinear without antialiasing, unlike the resizing in `image.py`.
    """
    height, width = frames.shape[1:3]
    if height <= width:
        shape = (size, math.floor(width / height * size))
    else:
        shape = (math.floor(height / width * size), size)
    if shape[0] * shape[1] > limits.video_pixels:
        raise DecodeError("the video's frames are too long and narrow")
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    return F.interpolate(pictures, shape, mode="bilinear", align_corners=False, antialias=False)


def three_crops(pictures: Tensor, size: int) -> list[Tensor]:
    """Cut (T, 3, h, w) into three squares (T, 3, S, S): start, middle, end of the longer side."""
    height, width = pictures.shape[2:]
    left, top = math.ceil((width - size) / 2), math.ceil((height - size) / 2)
    if height > width:
        corners = [(row, left) for row in (0, top, height - size)]
    else:
        corners = [(top, column) for column in (0, left, width - size)]
    return [pictures[:, :, row : row + size, col : col + size].clone() for row, col in corners]


def _open(data: bytes, limits: Limits) -> tuple[decord.VideoReader, NDArray[np.float64], float]:
    """Open the video: decord's reader, (start, end) of each frame from 0, and the mean rate.

    Decodes no frame. Raises DecodeError.
    """
    try:
        with _in_memory(data) as source:
            video = decord.VideoReader(source, num_threads=1)
        count = len(video)
        if count > limits.video_frames:
            raise DecodeError(f"the video has more than {limits.video_frames} frames")
        times = np.array(video.get_frame_timestamp(range(count)), dtype=np.float64)
        fps = float(video.get_avg_fps())
    except DecodeError:
        raise
    except Exception:  # clients must not see decord's messages
        raise DecodeError(DAMAGED) from None
    times -= times[0, 0] if count else 0
    if not count or not np.isfinite(times).all() or (np.diff(times[:, 0]) < 0).any():
        raise DecodeError(DAMAGED)
    if times[-1, 1] > limits.video_seconds:
        raise DecodeError(f"the video is longer than {limits.video_seconds} s")
    return video, times, fps


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Yield the path of an unnamed file in memory.

    decord can also open bytes objects, but a damaged video can make it read beyond their end.
    """
    file = os.memfd_create("video")
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(data)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _decode(video: decord.VideoReader, frames: list[int], limits: Limits) -> Tensor:
    """Decode frames (T, H, W, 3) uint8, and check their size, which only decoding shows."""
    try:
        try:
            pictures = video.get_batch(frames).asnumpy()
        except decord.DECORDError:
            pictures = _padded(video, frames)
    except Exception:  # clients must not see decord's messages
        raise DecodeError(DAMAGED) from None
    if pictures.shape[1] * pictures.shape[2] > limits.video_pixels:
        raise DecodeError(f"the video has frames of more than {limits.video_pixels} pixels")
    return torch.from_numpy(pictures)


def _padded(video: decord.VideoReader, frames: list[int]) -> NDArray[np.uint8]:
    """Decode frames (T, H, W, 3) of a width of 16, 32, 48, 96 or 144 on a processor with AVX-512.

    FFmpeg pads the rows of these widths, and decord computes more than 3 bytes per pixel from the
    padded length, so that reading a batch fails. Single frames contain the padding, which this
    function removes.
    """
    rows = np.stack([video[frame].asnumpy() for frame in frames])
    count, height, width, pixel_bytes = rows.shape
    if pixel_bytes == 3:  # the rows have no padding, so the batch failed for another reason
        raise DecodeError(DAMAGED)
    return rows.reshape(count, height, -1)[:, :, : 3 * width].reshape(count, height, width, 3)


def _at_least_one(first: int, stop: int) -> range:
    """Return the clip's frames or, if no frame starts in the clip (low rates), the frame before."""
    return range(first, stop) if first < stop else range(max(first - 1, 0), max(first, 1))
