"""Decode chosen frames of a video with the library decord (FFmpeg), from memory or an open file.

decord reads mp4/mov, matroska/webm, avi and mpegts. `container.py` must have checked the signature.
Shapes: N frames of the video, T frames of a clip.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import decord
import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Damaged
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.source import Source

DAMAGED = "the video is damaged"


class DecordVideo:
    """A video file. Implements the protocol `frames.Video`."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._video: decord.VideoReader | None = None

    def timeline(self) -> tuple[NDArray[np.float64], float]:
        """Open the video, and read the times of its frames. Decodes no frame."""
        try:
            with _path(self._source) as path:
                video = decord.VideoReader(path, num_threads=1)
            count = len(video)
            if count > self._limits.video_frames:
                raise DecodeError(f"the video has more than {self._limits.video_frames} frames")
            times = np.array(video.get_frame_timestamp(range(count)), dtype=np.float64)
            fps = float(video.get_avg_fps())
        except DecodeError:
            raise
        except Exception:  # decord's messages contain internals
            raise Damaged(DAMAGED) from None
        times -= times[0, 0] if count else 0
        if not count or not np.isfinite(times).all() or (np.diff(times[:, 0]) < 0).any():
            raise Damaged(DAMAGED)
        self._video = video
        return times, fps

    def frames(self, indices: Sequence[int]) -> Sequence[NDArray[np.uint8]]:
        """Decode frames (H, W, 3). Checks their size after decoding, because it is not known
        before.
        """
        assert self._video is not None
        try:
            try:
                pictures: NDArray[np.uint8] = self._video.get_batch(list(indices)).asnumpy()
            except decord.DECORDError:
                pictures = _padded(self._video, indices)
        except Exception:  # decord's messages contain internals
            raise Damaged(DAMAGED) from None
        if pictures.shape[1] * pictures.shape[2] > self._limits.video_pixels:
            raise DecodeError(
                f"the video has frames of more than {self._limits.video_pixels} pixels"
            )
        return list(pictures)


@contextmanager
def _path(source: Source) -> Iterator[str]:
    """Yield a path by which FFmpeg can open the file. Bytes are written to an unnamed file in
    memory.

    decord can also open bytes objects, but a damaged video can make it read beyond their end.
    """
    if not isinstance(source, bytes):
        source.seek(0)
        # FFmpeg reads standard input as `fd:`. A decoding process, whose job is standard input,
        # cannot open files, not even its own by their paths.
        yield f"/proc/self/fd/{source.fileno()}" if source.fileno() else "fd:"
        return
    file = os.memfd_create("video")
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(source)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _padded(video: decord.VideoReader, frames: Sequence[int]) -> NDArray[np.uint8]:
    """Decode frames (T, H, W, 3) of a width of 16, 32, 48, 96 or 144 on a processor with AVX-512.

    FFmpeg pads the rows of these frames. decord then computes a wrong number of bytes per pixel and
    cannot read a batch. This function reads single frames and removes the padding.
    """
    rows = np.stack([video[frame].asnumpy() for frame in frames])
    count, height, width, pixel_bytes = rows.shape
    if pixel_bytes == 3:  # rows have no padding, so the error has another cause
        raise Damaged(DAMAGED)
    return rows.reshape(count, height, -1)[:, :, : 3 * width].reshape(count, height, width, 3)
