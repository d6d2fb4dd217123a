"""The samples of a sound: a short sound in memory, or a long one of which pieces are decoded.

Shapes: C channels, N samples of each channel.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.preprocess.blocks import DAMAGED, Block, SoundReader
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits

# A piece of a long sound is decoded from this many seconds before its start, because a decoder that
# starts in the middle of a file needs earlier packets for its first samples.
PREROLL_S = 1


class Sound(Protocol):
    rate: int  # Hz
    channels: int
    length: int  # N

    def piece(self, start: int, stop: int) -> Tensor:
        """Return the samples start..stop, (C, stop - start). Raises DecodeError."""
        ...


class Waveform:
    """A sound in memory."""

    def __init__(self, samples: Tensor, rate: int) -> None:
        """`samples`: (C, N)."""
        self.samples, self.rate = samples, rate
        self.channels, self.length = samples.shape

    def piece(self, start: int, stop: int) -> Tensor:
        return self.samples[:, start:stop]


class LongSound:
    """A sound that is decoded piece by piece."""

    def __init__(self, reader: SoundReader, rate: int, channels: int, limits: Limits) -> None:
        """Find the length of the sound by decoding its end. Raises DecodeError."""
        self._reader, self.rate, self.channels = reader, rate, channels
        self._limits = limits
        # the declared length can be wrong, so decode from there to the end of the file
        near_end = max(0, reader.declared_length() - 2 * PREROLL_S * rate)
        self.length = self._end(near_end) or self._end(0)

    def piece(self, start: int, stop: int) -> Tensor:
        for near in (max(0, start - PREROLL_S * self.rate), 0):  # 0: if seeking was not exact
            parts = list(self._parts(near, start, stop))
            if sum(map(len, parts)) == stop - start:
                return finite(torch.from_numpy(np.concatenate(parts).T))
        raise DecodeError(DAMAGED)

    def _parts(self, near: int, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        for block in self._checked(near):
            if block.first >= stop:
                return
            yield block.samples[max(0, start - block.first) : stop - block.first]

    def _end(self, near: int) -> int:
        return max((block.first + len(block.samples) for block in self._checked(near)), default=0)

    def _checked(self, near: int) -> Iterator[Block]:
        limit = max_length(self.rate, self.channels, self._limits)
        for block in self._reader.blocks(near):
            check_format(block, self.rate, self.channels)
            if block.first + len(block.samples) > limit:
                raise too_long(self._limits)
            yield block


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first samples of a sound."""

    samples: Tensor  # (C, N)
    rate: int
    whole: bool  # whether these are all samples of the sound


def gather(blocks: Iterable[Block], limits: Limits, max_samples: int | None = None) -> Beginning:
    """Join blocks, until they have more than `max_samples` samples of all channels. Counts the
    samples, because a file may have more samples than its header declares. Raises DecodeError.
    """
    kept: list[NDArray[np.float32]] = []
    frames = rate = channels = 0
    whole = True
    for block in blocks:
        if not kept:
            rate, channels = block.rate, block.samples.shape[1]
            check_header(rate, channels, 0, limits)
        check_format(block, rate, channels)
        frames += len(block.samples)
        if frames > max_length(rate, channels, limits):
            raise too_long(limits)
        kept.append(block.samples)
        if max_samples is not None and frames * channels > max_samples:
            whole = False
            break
    if not frames:
        raise DecodeError("the audio has no samples")
    return Beginning(finite(torch.from_numpy(np.concatenate(kept).T)), rate, whole)


def check_header(rate: int, channels: int, frames: int, limits: Limits) -> None:
    if not 1 <= channels <= limits.audio_channels:
        raise DecodeError(f"the audio has more than {limits.audio_channels} channels")
    if not 1000 <= rate <= limits.audio_rate:
        raise DecodeError(f"the audio's sampling rate is not in 1000..{limits.audio_rate} Hz")
    if frames > max_length(rate, channels, limits):
        raise too_long(limits)


def check_format(block: Block, rate: int, channels: int) -> None:
    if (block.rate, block.samples.shape[1]) != (rate, channels):
        raise DecodeError("the audio's sampling rate or number of channels changes")


def max_length(rate: int, channels: int, limits: Limits) -> int:
    return min(rate * limits.audio_seconds, limits.audio_samples // channels)


def finite(samples: Tensor) -> Tensor:
    if not samples.isfinite().all():
        raise DecodeError("the audio has samples that are not finite numbers")
    return samples


def too_long(limits: Limits) -> DecodeError:
    return DecodeError(
        f"the audio is longer than {limits.audio_seconds} s"
        f" or {limits.audio_samples} samples in all channels"
    )
