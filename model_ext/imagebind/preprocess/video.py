"""Decode video files into 5 clips x 3 crops of normalised frames (15, 3, 2, 224, 224).

Shapes: T frames of a clip, S size of a crop.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.clips import clip_frames
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Video
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions
from model_ext.imagebind.preprocess.source import Source
from model_ext.imagebind.preprocess.video_decoders import check_duration, with_decoder


def read_video(
    source: Source,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a video to (15, 3, T, S, S) float32: clip after clip, three crops of each clip."""
    del options  # no reading option applies to videos
    notes = {} if notes is None else notes
    return with_decoder(source, limits, notes, lambda video: _read(video, config, limits))


def _read(video: Video, config: PreprocessConfig, limits: Limits) -> Tensor:
    times, fps = video.timeline()
    check_duration(times[-1, 1], limits)
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
