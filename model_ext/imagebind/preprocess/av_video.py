"""Decode chosen frames of a video with PyAV (FFmpeg), from memory or from an open file.

Files that decord reads need this module only when decord fails.
Shapes: N frames of the video.
"""

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.av_file import (
    PICTURE_CODECS,
    check_codec,
    opened,
    picture_stream,
)
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Damaged
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.source import Source

DAMAGED = "the video is damaged"
DEFAULT_FPS = 25


class AvVideo:
    """A video file in the container format `name`, e.g. mp4. Implements `frames.Video`.

    Each method opens the file again.
    """

    def __init__(self, source: Source, name: str, limits: Limits) -> None:
        self._source, self._name, self._limits = source, name, limits
        # Presentation times of all frames in the stream's unit, in order
        self._starts: list[int] = []

    def timeline(self) -> tuple[NDArray[np.float64], float]:
        """Return the start and end of each frame, and the frame rate. Decodes frames only if
        packets have no times.
        """
        with opened(self._source, self._name, DAMAGED) as file:
            stream = self._stream(file)
            unit = float(stream.time_base or 0)
            rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            packets = self._packets(file, stream)
        if not packets or any(start is None for start, _ in packets):
            packets = self._decoded_times()
        packets.sort()
        self._starts = [start for start, _ in packets if start is not None]
        if not self._starts or unit <= 0:
            raise Damaged(DAMAGED)
        last = packets[-1][1] or round(1 / (rate * unit))
        starts = np.array([*self._starts, self._starts[-1] + last], np.float64)
        seconds = (starts - starts[0]) * unit
        return np.stack([seconds[:-1], seconds[1:]], 1), rate

    def frames(self, indices: Sequence[int]) -> Sequence[NDArray[np.uint8]]:
        """Decode frames (H, W, 3), in the order of `indices`."""
        starts = sorted({self._starts[index] for index in indices})
        with opened(self._source, self._name, DAMAGED) as file:
            pictures = self._seek(file, starts)
        if len(pictures) < len(starts):  # seeking was not exact: decode from the start
            with opened(self._source, self._name, DAMAGED) as file:
                pictures |= self._search(self._decode(file, self._stream(file)), starts)
        if not pictures:
            raise Damaged(DAMAGED)
        times = sorted(pictures)
        return [pictures[_nearest(times, self._starts[index])] for index in indices]

    def in_order(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Decode the file once from its start, and yield (index, frame (H, W, 3)) for each of
        `indices`, which increase. A frame that is damaged is replaced by the next one.
        """
        rest = iter(indices)
        index = next(rest, None)
        picture: NDArray[np.uint8] | None = None
        with opened(self._source, self._name, DAMAGED) as file:
            for frame in self._decode(file, self._stream(file)):
                if index is None:
                    return
                if frame.pts is None or frame.pts < self._starts[index]:
                    continue
                picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                while index is not None and self._starts[index] <= frame.pts:
                    yield index, picture
                    index = next(rest, None)
        if picture is None:
            raise Damaged(DAMAGED)
        while index is not None:  # the last frames are damaged
            yield index, picture
            index = next(rest, None)

    def _stream(self, file: InputContainer) -> av.VideoStream:
        stream = picture_stream(file)
        if stream is None:
            raise DecodeError("the video has no moving pictures")
        check_codec(stream, PICTURE_CODECS)
        context = stream.codec_context
        if context.width * context.height > self._limits.video_pixels:
            raise self._too_large()
        context.thread_count = 1
        return stream

    def _packets(
        self, file: InputContainer, stream: av.VideoStream
    ) -> list[tuple[int | None, int]]:
        times: list[tuple[int | None, int]] = []
        for packet in file.demux(stream):
            if packet.size and not packet.is_discard:
                times.append((packet.pts, packet.duration or 0))
                self._check_count(len(times))
        return times if None not in {start for start, _ in times} else [(None, 0)]

    def _decoded_times(self) -> list[tuple[int | None, int]]:
        times: list[tuple[int | None, int]] = []
        with opened(self._source, self._name, DAMAGED) as file:
            for frame in self._decode(file, self._stream(file)):
                if frame.pts is not None:
                    times.append((frame.pts, frame.duration or 0))
                    self._check_count(len(times))
        return times

    def _decode(self, file: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Decode frames from the file's current position. Skips damaged packets."""
        for packet in file.demux(stream):
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                continue
            for frame in frames:
                if frame.width * frame.height > self._limits.video_pixels:
                    raise self._too_large()
                yield frame

    def _seek(self, file: InputContainer, starts: list[int]) -> dict[int, NDArray[np.uint8]]:
        """Decode the frames that start at `starts`. For each frame, seeks to the key frame before
        it.
        """
        stream = self._stream(file)
        pictures: dict[int, NDArray[np.uint8]] = {}
        rest = list(starts)
        while rest:
            try:
                file.seek(rest[0], stream=stream)
            except av.FFmpegError:
                return pictures
            # A clip's two frames are close to each other, so both are searched after one seek.
            near = [time for time in rest if time - rest[0] <= 3 / float(stream.time_base or 1)]
            pictures |= self._search(self._decode(file, stream), near)
            rest = [time for time in rest if time not in near]
        return pictures

    def _search(
        self, frames: Iterator[av.VideoFrame], starts: list[int]
    ) -> dict[int, NDArray[np.uint8]]:
        """Return the frames whose start is in `starts`. Stops after the last of them."""
        pictures: dict[int, NDArray[np.uint8]] = {}
        for frame in frames:
            if frame.pts is not None and frame.pts in starts and frame.pts not in pictures:
                pictures[frame.pts] = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                if len(pictures) == len(starts):
                    break
            elif frame.pts is not None and frame.pts > starts[-1]:
                break
        return pictures

    def _check_count(self, count: int) -> None:
        if count > self._limits.video_frames:
            raise DecodeError(f"the video has more than {self._limits.video_frames} frames")

    def _too_large(self) -> DecodeError:
        return DecodeError(f"the video has frames of more than {self._limits.video_pixels} pixels")


def _nearest(times: list[int], time: int) -> int:
    """Return the item of `times` nearest to `time`. If a frame is damaged, the nearest frame
    replaces it.
    """
    return min(times, key=lambda each: abs(each - time))
