"""Decode the sound of containers that PyAV (FFmpeg) reads."""

from collections.abc import Iterator

import av
import numpy as np
from av.codec.context import Flags2
from av.container import InputContainer
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.av_file import (
    SOUND_CODECS,
    check_codec,
    opened,
    sound_stream,
)
from model_ext.imagebind.preprocess.blocks import DAMAGED, Block
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.options import Notes
from model_ext.imagebind.preprocess.source import Source

# FFmpeg's sample format (without the final p of planar formats) -> the sample value that becomes
# 1.0
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


# The first decoded frame of AAC has only the delay of the encoder. mp4 files say so, and FFmpeg
# drops this frame, but these containers do not.
WITHOUT_DELAY = frozenset({"aac", "mpegts", "m2ts"})
# The same is true of WMA. There FFmpeg drops two frames, and with the second one the first 46 ms of
# files that FFmpeg's own encoder wrote. Therefore, `_stream` tells FFmpeg to drop nothing.
WMA = frozenset({"wmav1", "wmav2"})


class AvSound:
    """The first sound stream of a file of the container `name`. Implements `blocks.SoundReader`.

    Each method opens the file again. Skips damaged packets, and counts them in `notes`.
    """

    def __init__(self, source: Source, name: str, notes: Notes) -> None:
        self._source, self._name, self._notes = source, name, notes
        self._first_pts: int | None = None  # time of the first sample, in the stream's unit

    def declared_length(self) -> int:
        """Compute the length from the times of all packets. Decodes nothing. Returns 0 if packets
        have no times.

        Call `blocks` first.
        """
        with opened(self._source, self._name, DAMAGED) as file:
            stream = self._stream(file)
            times = [
                packet.pts + (packet.duration or 0)
                for packet in file.demux(stream)
                if packet.pts is not None
            ]
            if not times or self._first_pts is None:
                return 0
            return self._position(stream, max(times))

    def blocks(self, start: int = 0) -> Iterator[Block]:
        with opened(self._source, self._name, DAMAGED) as file:
            stream = self._stream(file)
            if start == 0 or self._seek(file, stream, start):
                yield from self._blocks(file, stream, exact=start == 0)
                return
        yield from self.blocks()  # this file cannot be read from its middle

    def _blocks(self, file: InputContainer, stream: av.AudioStream, exact: bool) -> Iterator[Block]:
        """Decode from the current position. `exact`: whether this is the start of the file."""
        position: int | None = None
        frames = self._frames(file, stream)
        if exact and self._starts_with_delay(stream):
            next(frames, None)
        for frame in frames:
            if position is None and exact:
                self._first_pts, position = frame.pts, 0
            elif position is None:
                position = self._position(stream, frame.pts or 0)
            samples = _samples(frame)
            yield Block(position, samples, frame.sample_rate)
            position += len(samples)

    def _stream(self, file: InputContainer) -> av.AudioStream:
        stream = sound_stream(file)
        if stream is None:
            raise DecodeError("the video has no sound track" if file.streams.video else DAMAGED)
        check_codec(stream, SOUND_CODECS)
        self._notes["codec"] = codec = stream.codec_context.codec.canonical_name
        if codec in WMA:
            stream.codec_context.flags2 |= Flags2.skip_manual
        stream.codec_context.thread_count = 1
        return stream

    def _starts_with_delay(self, stream: av.AudioStream) -> bool:
        """Whether the first decoded frame has only the delay of the encoder."""
        codec = stream.codec_context.codec.canonical_name
        return codec in WMA or (codec.startswith("aac") and self._name in WITHOUT_DELAY)

    def _frames(self, file: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
        damaged = 0
        for packet in file.demux(stream):
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                damaged += 1
                self._notes["damaged_packets"] = damaged
                continue
            yield from frames

    def _seek(self, file: InputContainer, stream: av.AudioStream, start: int) -> bool:
        if self._first_pts is None or not stream.time_base:
            return False
        seconds = start / stream.codec_context.sample_rate
        try:
            file.seek(self._first_pts + int(seconds / float(stream.time_base)), stream=stream)
        except av.FFmpegError:
            return False
        return True

    def _position(self, stream: av.AudioStream, pts: int) -> int:
        """Return the index of the sample at a time in the stream's unit."""
        ticks = pts - (self._first_pts or 0)
        return round(ticks * float(stream.time_base or 0) * stream.codec_context.sample_rate)


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    array = frame.to_ndarray()
    scale = FULL_SCALE[frame.format.name.removesuffix("p")]
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    zero = 128 if array.dtype == np.uint8 else 0
    return (array.astype(np.float32) - np.float32(zero)) / np.float32(scale)
