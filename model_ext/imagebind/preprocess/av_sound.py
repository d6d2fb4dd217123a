"""Decode the sound of containers that PyAV (FFmpeg) reads, in blocks of samples (N, channels)."""

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.av_file import (
    SOUND_CODECS,
    Source,
    check_codec,
    opened,
    sound_stream,
)
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.options import Notes

# FFmpeg's sample format (without the final p of planar formats) -> the sample value that becomes
# 1.0
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}

DAMAGED = "the audio is damaged"

Block = tuple[NDArray[np.float32], int]  # samples (N, channels) in [-1, 1), sampling rate in Hz


def sound_blocks(source: Source, name: str, notes: Notes) -> Iterator[Block]:
    """Decode the first sound stream of a file of the container `name`.

    Skips damaged packets, and counts them in `notes`. Raises DecodeError.
    """
    with opened(source, name, DAMAGED) as file:
        stream = sound_stream(file)
        if stream is None:
            raise DecodeError("the video has no sound track" if file.streams.video else DAMAGED)
        check_codec(stream, SOUND_CODECS)
        notes["codec"] = stream.codec_context.codec.canonical_name
        stream.codec_context.thread_count = 1
        yield from _frames(file, stream, notes)


def _frames(file: InputContainer, stream: av.AudioStream, notes: Notes) -> Iterator[Block]:
    damaged = 0
    for packet in file.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            damaged += 1
            notes["damaged_packets"] = damaged
            continue
        for frame in frames:
            yield _samples(frame), frame.sample_rate


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    array = frame.to_ndarray()
    scale = FULL_SCALE[frame.format.name.removesuffix("p")]
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    zero = 128 if array.dtype == np.uint8 else 0
    return (array.astype(np.float32) - np.float32(zero)) / np.float32(scale)
