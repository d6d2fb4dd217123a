"""Cut a video into windows. Each window is an AVI file with the frames that the encoder reads.

The file is read twice: once for the times of its frames, without decoding them, and once to decode
the frames in order. Only frames of windows that are not complete are kept in memory.
Shapes: N frames of the file, H x W pixels of a frame.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.av_video import AvVideo
from model_ext.imagebind.preprocess.clips import CLIP_SECONDS, clip_frames
from model_ext.imagebind.preprocess.limits import Limits
from server.encoding.decode.cut_job import CutError, CutJob

MAX_RATE = 240  # Frames per second from which the maximum number of frames is computed.
TOLERANCE = 1e-6  # Seconds by which the times of frames may differ from exact times.

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """The frames of one window. `clips`: for each distinct clip, the indices of its frames."""

    start: float  # seconds from the first frame of the file
    end: float
    clips: tuple[tuple[int, ...], ...]

    def indices(self) -> set[int]:
        return {index for clip in self.clips for index in clip}


def avi_windows(file: BinaryIO, name: str, job: CutJob) -> Iterator[tuple[float, float, bytes]]:
    """Yield start and end in seconds, and the AVI file, of each window.

    `name`: the file's container. Raises DecodeError, CutError.
    """
    max_frames = int(job.max_seconds * MAX_RATE)
    video = AvVideo(file, name, Limits(video_pixels=job.max_pixels, video_frames=max_frames))
    times, fps = video.timeline()
    if times[-1, 1] > job.max_seconds:
        raise CutError(f"the video is longer than {job.max_seconds:g} s")
    choices = list(windows_of(times, fps, job))
    needed = sorted(set().union(*(choice.indices() for choice in choices)))
    pictures: dict[int, Picture] = {}
    frames = video.in_order(needed)
    for number, choice in enumerate(choices):
        while max(choice.indices()) not in pictures:
            index, picture = next(frames)
            pictures[index] = picture
            check_memory(pictures, picture, job)
        clips = [[pictures[index] for index in clip] for clip in choice.clips]
        yield choice.start, choice.end, write_avi(clips, job)
        if number + 1 < len(choices):
            first = min(choices[number + 1].indices())
            pictures = {index: each for index, each in pictures.items() if index >= first}


def windows_of(times: NDArray[np.float64], fps: float, job: CutJob) -> Iterator[FrameChoice]:
    """Choose the frames of each window: the frames that the encoder's reader would choose from a
    file with only this window.

    `times` (N, 2): start and end of each frame in seconds. A frame belongs to the window in which
    it starts. A window in which no frame starts gets the frame that is shown at the start of the
    window.
    """
    starts, duration = times[:, 0], float(times[-1, 1])
    number = 0
    while (start := number * job.stride) < duration - TOLERANCE:
        if number == job.max_windows:
            raise CutError(f"the video has more than {job.max_windows} windows")
        first = int(np.searchsorted(starts, start - TOLERANCE))
        stop = int(np.searchsorted(starts, start + job.seconds - TOLERANCE))
        if first == stop:
            first, stop = max(first - 1, 0), max(first, 1)
        inside = times[first:stop] - times[first, 0]
        clips = [spread(clip, job.frames) for clip in clip_frames(inside, fps)]
        distinct = tuple(clips[:1]) if len(set(clips)) == 1 else tuple(clips)
        shifted = tuple(tuple(first + index for index in clip) for clip in distinct)
        yield FrameChoice(start, min(start + job.seconds, duration), shifted)
        number += 1


def spread(clip: range, count: int) -> tuple[int, ...]:
    """Choose `count` frames of a clip at equal distances, from its first to its last frame."""
    if count == 1:
        return (clip[0],)
    return tuple(clip[number * (len(clip) - 1) // (count - 1)] for number in range(count))


def check_memory(pictures: dict[int, Picture], picture: Picture, job: CutJob) -> None:
    if len(pictures) * picture.nbytes > job.memory_bytes // 4:
        raise CutError("too many windows overlap; use shorter windows or a longer stride")


def write_avi(clips: Sequence[Sequence[Picture]], job: CutJob) -> bytes:
    """Write the frames without loss. The rate is such that every 2 s of the file are one clip."""
    pictures = [picture for clip in clips for picture in clip]
    if len({picture.shape for picture in pictures}) != 1:
        raise CutError("the video has frames of different sizes")
    if sum(picture.nbytes for picture in pictures) > job.max_window_bytes:
        raise CutError(
            f"the frames of a window have more than {job.max_window_bytes} bytes; use windows of "
            "at most 2 s, or a smaller video"
        )
    data = io.BytesIO()
    height, width, _ = pictures[0].shape
    with av.open(data, "w", format="avi") as file:
        stream = file.add_stream("rawvideo", rate=Fraction(job.frames, CLIP_SECONDS))
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr24"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return data.getvalue()
