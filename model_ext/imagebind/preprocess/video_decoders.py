"""Choose the decoder of a video. decord reads mp4/mov, matroska/webm and avi. PyAV reads all
other containers, and the files on which decord fails.
"""

from collections.abc import Callable
from typing import TypeVar

from model_ext.imagebind.preprocess.av_video import AvVideo
from model_ext.imagebind.preprocess.container import VIDEO, container, is_video
from model_ext.imagebind.preprocess.decord_video import DecordVideo
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.frames import Damaged, Video
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes
from model_ext.imagebind.preprocess.source import Source, head_of

Result = TypeVar("Result")


def with_decoder(
    source: Source, limits: Limits, notes: Notes, read: Callable[[Video], Result]
) -> Result:
    """Call `read` with a decoder of the video, and again with another one if it raises Damaged.

    Raises DecodeError: when the file is no video, exceeds a limit, or no decoder can read it.
    """
    head = head_of(source)
    name = container(head)
    if name is None or name not in VIDEO:
        raise unreadable("video", head)
    notes["container"] = name
    if is_video(head):
        try:
            return read(DecordVideo(source, limits))
        except Damaged:
            pass
    return read(AvVideo(source, name, limits))


def check_duration(seconds: float, limits: Limits) -> None:
    if seconds > limits.video_seconds:
        raise DecodeError(f"the video is longer than {limits.video_seconds} s")
