"""Decode sounds with the library libsndfile: wav, flac, ogg, aiff, caf, w64 and au."""

from collections.abc import Iterator

import soundfile

from model_ext.imagebind.preprocess.blocks import DAMAGED, Block
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.source import Source, as_file

BLOCK = 65_536  # number of samples of each channel that are read at a time
UNKNOWN = 2**62  # libsndfile reports more samples than this if a FLAC header has no length

ERRORS = (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError)


class SndfileSound:
    """An open sound. Implements `blocks.SoundReader`."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self._position = 0

    @classmethod
    def open(cls, source: Source) -> "SndfileSound | None":
        """Open the file, or return None if libsndfile does not know its codec or its length."""
        try:
            # soundfile would treat a file object named x.raw as raw samples, so pass its descriptor
            file = (
                soundfile.SoundFile(as_file(source))
                if isinstance(source, bytes)
                else soundfile.SoundFile(as_file(source).fileno(), closefd=False)
            )
        except soundfile.LibsndfileError:
            return None
        except ERRORS:
            raise DecodeError(DAMAGED) from None
        return cls(file) if file.frames < UNKNOWN else None

    def declared_length(self) -> int:
        return int(self._file.frames)

    def blocks(self, start: int = 0) -> Iterator[Block]:
        try:
            if start != self._position:
                self._position = self._seek(start)
            while len(samples := self._file.read(BLOCK, dtype="float32", always_2d=True)):
                first = self._position
                self._position += len(samples)
                yield Block(first, samples, self.rate)
        except ERRORS:
            raise DecodeError(DAMAGED) from None

    def _seek(self, start: int) -> int:
        """Move to the sample `start`, or to the start of the file if this is not possible. Returns
        the new position.
        """
        try:
            return int(self._file.seek(start))
        except soundfile.LibsndfileError:
            return int(self._file.seek(0))
