"""Decode video files into 5 clips x 3 crops of normalised frames (15, 3, 2, 224, 224).

The library decord reads mp4/mov, matroska/webm, avi and mpegts. PyAV reads all other containers,
and the files on which decord fails.
Shapes: T frames of a clip, S size of a crop.
"""

import math
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.av_video import AvVideo
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.container import VIDEO, container, is_video
from model_ext.imagebind.preprocess.decord_video import DecordVideo
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Damaged, Video
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions

CLIPS = 5
CLIP_SECONDS = 2


def read_video(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a video to (15, 3, T, S, S) float32: clip after clip, three crops of each clip."""
    del options  # no reading option applies to videos
    name = container(data)
    if name is None or name not in VIDEO:
        raise unreadable("video", data)
    if notes is not None:
        notes["container"] = name
    if is_video(data):
        try:
            return _read(DecordVideo(data, limits), config, limits)
        except Damaged:
            pass
    return _read(AvVideo(data, name, limits), config, limits)


def _read(video: Video, config: PreprocessConfig, limits: Limits) -> Tensor:
    times, fps = video.timeline()
    if times[-1, 1] > limits.video_seconds:
        raise DecodeError(f"the video is longer than {limits.video_seconds} s")
    clips = [
        [clip[index] for index in torch.linspace(0, len(clip) - 1, config.frames).long()]
        for clip in clip_frames(times, fps)
    ]
    # Decode all frames in one call, because some decoders open the file in each call.
    indices = sorted({index for clip in clips for index in clip})
    pictures = dict(zip(indices, video.frames(indices), strict=True))
    crops = []
    for clip in clips:
        frames = [pictures[index] for index in clip]
        if len({frame.shape for frame in frames}) != 1:
            raise DecodeError("the video has frames of different sizes")
        resized = resize(torch.from_numpy(np.stack(frames)), config.image_size, limits)
        crops += three_crops(resized, config.image_size)
    normalized = (torch.stack(crops) - MEAN[:, None, None]) / STD[:, None, None]
    return normalized.transpose(1, 2).contiguous()


def clip_frames(times: NDArray[np.float64], fps: float) -> list[range]:
    """Return the indices of the frames of each 2 s clip.

    `times` (frames, 2) has the start and end of each frame in seconds, from 0.

    Clips are evenly spaced and the last one ends with the video. A frame belongs to the clip in
    which it starts. decord's times are rounded to float32, so comparing them exactly would choose
    wrong frames near the start or the end of a clip. This function computes with fractions if the
    frame rate is constant, and otherwise compares with a tolerance.
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
    """Cut frames (T, 3, h, w) into three squares (T, 3, S, S): at the start, the middle and the end
    of the longer side.
    """
    height, width = pictures.shape[2:]
    left, top = math.ceil((width - size) / 2), math.ceil((height - size) / 2)
    if height > width:
        corners = [(row, left) for row in (0, top, height - size)]
    else:
        corners = [(top, column) for column in (0, left, width - size)]
    return [pictures[:, :, row : row + size, col : col + size].clone() for row, col in corners]


def _at_least_one(first: int, stop: int) -> range:
    """Return the frames that start in the clip. If there is none (low frame rates), returns the
    frame before the clip.
    """
    return range(first, stop) if first < stop else range(max(first - 1, 0), max(first, 1))
