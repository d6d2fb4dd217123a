"""Convert sound to the form that speech models read: one channel at 16 kHz in 16 bits.

FFmpeg's resampler computes it, as in faster-whisper. This module imports no torch.
"""

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # Sampling rate in Hz.
BLOCK = 1 << 18  # Number of samples that are converted at a time.

Samples = NDArray[np.int16]


class SpeechSamples:
    """Converts consecutive blocks of one sound."""

    def __init__(self, rate: int) -> None:
        """`rate`: the sampling rate of the sound in Hz."""
        self._rate = rate
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)

    def add(self, block: NDArray[np.float32]) -> Samples:
        """Convert a block (N, channels), and return the samples that are ready, (M,)."""
        parts = [self._convert(block[at : at + BLOCK]) for at in range(0, len(block), BLOCK)]
        return np.concatenate([np.zeros(0, np.int16), *parts])

    def end(self) -> Samples:
        """Return the last samples."""
        return joined(self._resampler.resample(None))

    def _convert(self, block: NDArray[np.float32]) -> Samples:
        mono = np.clip(block.mean(1, dtype=np.float32), -1, 1)
        frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
        frame.sample_rate = self._rate
        return joined(self._resampler.resample(frame))


def joined(frames: list[av.AudioFrame]) -> Samples:
    arrays = [np.asarray(frame.to_ndarray()[0], np.int16) for frame in frames]
    return np.concatenate([np.zeros(0, np.int16), *arrays])
