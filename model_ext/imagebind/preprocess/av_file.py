"""Open containers of sound and video with PyAV (FFmpeg), from memory or from an open file.

This module passes FFmpeg the name of the demuxer, so that no file can choose a demuxer that opens
other files. It also passes the list of allowed decoders (SOUND_CODECS and PICTURE_CODECS), because
FFmpeg decodes the first frames of each stream while it opens a file.
"""

import importlib
import io
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av
from av.codec import codecs_available
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.stream import Disposition

from model_ext.imagebind.preprocess.errors import DecodeError

ORDERS = ("le", "be")  # little-endian, big-endian
SOUND_CODECS = frozenset(
    {"aac", "aac_latm", "ac3", "alac", "amr_nb", "amr_wb", "dts", "eac3", "flac", "gsm", "gsm_ms"}
    | {"mp1", "mp2", "mp3", "nellymoser", "opus", "speex", "tta", "vorbis", "wavpack"}
    | {"adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf"}
    | {"wmalossless", "wmapro", "wmav1", "wmav2", "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8"}
    | {f"pcm_{kind}{bits}{order}" for kind in "sf" for bits in (16, 24, 32, 64) for order in ORDERS}
)
PICTURE_CODECS = frozenset(
    {"av1", "cinepak", "dnxhd", "dvvideo", "ffv1", "flv1", "h263", "h264", "hevc", "huffyuv"}
    | {"mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3"}
    | {"prores", "rawvideo", "svq1", "svq3", "theora", "vc1", "vp6", "vp6f", "vp8", "vp9"}
    | {"wmv1", "wmv2", "wmv3"}
)
# These modules run a program or download files.
NOT_IMPORTED = ("av.__main__", "av.datasets")
# Name that `container.py` returns -> FFmpeg's name, if it is different.
DEMUXERS = {"ogv": "ogg", "m2ts": "mpegts"}


def _decoders() -> str:
    """Return the value of FFmpeg's option `codec_whitelist`: the names of its decoders for the
    allowed codecs.
    """
    names = set()
    for name in codecs_available:
        try:
            codec = av.Codec(name, "r")
        except UnknownCodecError:  # FFmpeg can only encode this codec
            continue
        if codec.canonical_name in SOUND_CODECS | PICTURE_CODECS:
            names.add(codec.name)
    return ",".join(sorted(names))


def import_av() -> None:
    """Import all modules of PyAV. It imports some of them only when it opens the first file, which
    a confined process cannot do.
    """
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in NOT_IMPORTED:
            importlib.import_module(module.name)


OPTIONS = {"codec_whitelist": _decoders()}


Source = bytes | BinaryIO  # the bytes of a file, or a file that is open for reading


@contextmanager
def opened(source: Source, name: str, damaged: str) -> Iterator[InputContainer]:
    """Open a file of the container `name` at its start. In the `with` block, FFmpeg's errors become
    DecodeErrors.

    `damaged`: the message of these errors. FFmpeg's own messages would show internals to clients.
    """
    try:
        demuxer = DEMUXERS.get(name, name)
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        stream.seek(0)
        with av.open(stream, "r", format=demuxer, container_options=OPTIONS) as file:
            yield file
    # PyAV also raises ValueError and other exceptions for impossible values in a damaged file.
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError):
        raise DecodeError(damaged) from None


def sound_stream(file: InputContainer) -> av.AudioStream | None:
    return file.streams.audio[0] if file.streams.audio else None


def picture_stream(file: InputContainer) -> av.VideoStream | None:
    """Return the first video stream. The cover picture in a sound file does not count as one."""
    for stream in file.streams.video:
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
            return stream
    return None


def check_codec(stream: av.AudioStream | av.VideoStream, allowed: frozenset[str]) -> None:
    """Raise DecodeError when the stream's codec is not in `allowed`."""
    context = getattr(stream, "codec_context", None)
    if context is None:
        raise DecodeError(f"the {stream.type} has an unknown codec")
    codec = context.codec.canonical_name
    if codec not in allowed:
        raise DecodeError(f"the {stream.type} has the codec {codec}, which is not read: convert it")


def has_pictures(source: Source, name: str) -> bool:
    """Whether a file of the container `name` has moving pictures. Raises DecodeError."""
    with opened(source, name, "the video is damaged") as file:
        return picture_stream(file) is not None
