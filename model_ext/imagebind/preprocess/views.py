"""Decode the views of a file: the whole sound, the pictures at a readable size, or the points.

Side models and the viewer of point clouds get views, because the encoders' inputs are short clips
and small squares, in which speech or text is lost.
Shapes: N samples or points, F frames, H height, W width.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.av_file import opened, sound_stream
from model_ext.imagebind.preprocess.cloud.read import into_unit_sphere, read_cloud
from model_ext.imagebind.preprocess.container import VIDEO, container
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Video
from model_ext.imagebind.preprocess.image import open_image, turned_rgb
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from model_ext.imagebind.preprocess.registry import actual_modality, check_size
from model_ext.imagebind.preprocess.sound import decode
from model_ext.imagebind.preprocess.source import Source, head_of, whole
from model_ext.imagebind.preprocess.speech import SpeechSamples
from model_ext.imagebind.preprocess.video_decoders import check_duration, with_decoder

SOUND, PICTURES, POINTS = "sound", "pictures", "points"
# View -> the modalities of the files that have this view.
VIEWS = {SOUND: ("audio", "video"), PICTURES: ("image", "video"), POINTS: ("point",)}
MAX_SIDE = 2000  # pixels of the longer side of a picture
MAX_FRAME_SIDE = 1280  # pixels of the longer side of a video's frames
FRAMES = 6  # maximum number of frames of a video


def read_view(
    view: str, modality: str, source: Source, limits: Limits, notes: Notes | None = None
) -> Tensor:
    """Read a view of a file.

    sound: samples (N,) int16 of one channel at 16 kHz. pictures: RGB (F, H, W, 3) uint8.
    points: coordinates (N, 3) float32 in the unit sphere.
    An empty array (0,) if the file has no such view, for example a video without a sound track.

    The notes of pictures are `width` and `height` in pixels, before the pictures were scaled down.
    For a video, they are also `time_0`, `time_1` and so on, the times of its frames in seconds.

    Raises DecodeError. KeyError: for an unknown view.
    """
    if modality not in VIEWS[view]:
        return torch.empty(0)
    check_size(modality, source, limits)
    modality = actual_modality(modality, source)
    check_size(modality, source, limits)
    if modality not in VIEWS[view]:
        return torch.empty(0)
    if view == POINTS:
        return points_in_unit_sphere(whole(source), limits)
    if view == SOUND:
        return whole_sound(source, limits)
    notes = {} if notes is None else notes
    if modality == "image":
        return whole_picture(whole(source), limits, notes)
    return video_frames(source, limits, notes)


def whole_sound(source: Source, limits: Limits) -> Tensor:
    """Decode all samples of a sound, or of a video's sound track, to (N,) int16 at 16 kHz."""
    name = container(head_of(source))
    if name in VIDEO:
        with opened(source, name, "the video is damaged") as file:
            if sound_stream(file) is None:
                return torch.empty(0)
    samples, rate = decode(source, limits)
    speech = SpeechSamples(rate)
    return torch.from_numpy(np.concatenate([speech.add(samples.numpy().T), speech.end()]))


def points_in_unit_sphere(data: bytes, limits: Limits) -> Tensor:
    """Read a cloud, move its mean to 0 and scale its farthest point to distance 1: (N, 3) float32.

    The scaling comes before the conversion to float32, because laser scans have coordinates of
    millions of metres.
    """
    cloud = into_unit_sphere(read_cloud(data, limits, {}))
    return torch.from_numpy(np.ascontiguousarray(cloud, np.float32))


def whole_picture(data: bytes, limits: Limits, notes: Notes) -> Tensor:
    """Decode a picture, turn it upright, and scale it down to at most MAX_SIDE pixels on its longer
    side.
    """
    image = turned_rgb(open_image(data, limits), ReadOptions(orient=True), {})
    notes["width"], notes["height"] = image.size
    return torch.from_numpy(np.array(_at_most(image, MAX_SIDE)))[None]


def video_frames(source: Source, limits: Limits, notes: Notes) -> Tensor:
    """Decode at most FRAMES frames of a video. The video is divided into parts of equal length, and
    the frame in the middle of each part is taken.
    """
    return with_decoder(source, limits, {}, lambda video: _read_frames(video, limits, notes))


def _read_frames(video: Video, limits: Limits, notes: Notes) -> Tensor:
    times, _ = video.timeline()
    check_duration(times[-1, 1], limits)
    parts = min(FRAMES, len(times))
    indices = [(2 * part + 1) * len(times) // (2 * parts) for part in range(parts)]
    decoded = video.frames(indices)
    if len({frame.shape for frame in decoded}) != 1:
        raise DecodeError("the video has frames of different sizes")
    notes["height"], notes["width"] = decoded[0].shape[:2]
    notes |= {f"time_{part}": float(times[index, 0]) for part, index in enumerate(indices)}
    frames = [np.array(_at_most(Image.fromarray(frame), MAX_FRAME_SIDE)) for frame in decoded]
    return torch.from_numpy(np.stack(frames))


def _at_most(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
