"""Resample any part of a waveform with a windowed sinc kernel, for any two sampling rates.

Each output sample is a weighted sum of a few input samples. Unusual rates are not slower: 44101 ->
16000 Hz costs as much as 44100 -> 16000 Hz. Shapes: C channels, N input samples, R output samples,
P phases, T taps.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOWPASS_WIDTH = 6  # zero crossings on each side of the sinc kernel
ROLLOFF = 0.99


class Resampler:
    def __init__(self, old_rate: int, new_rate: int) -> None:
        common = math.gcd(old_rate, new_rate)
        self.old = old_rate // common
        self.new = new_rate // common
        base = ROLLOFF * min(self.old, self.new)
        self.width = math.ceil(LOWPASS_WIDTH * self.old / base)
        phases = torch.arange(self.new)
        # For each phase: the offset of its first tap in input samples
        self.first = phases * self.old // self.new - self.width
        taps = self.first[:, None] + torch.arange(2 * self.width + 2)
        self.kernel = _kernel(phases[:, None], taps, self.old, self.new, base)  # shape (P, T)

    def length(self, samples: int) -> int:
        """Return the number of output samples for `samples` input samples."""
        return -(-samples * self.new // self.old)

    def needed(self, start: int, stop: int) -> tuple[int, int, int]:
        """Return which input samples the output samples start..stop need: the first one, the last
        one + 1, and the number of output samples to subtract from `start` and `stop` if `stretch`
        gets only these input samples.

        The first one is a multiple of `old`, so that the phases do not change.
        """
        margin = -(-(self.width + 2) // self.old)
        periods = max(0, start // self.new - margin)
        end = (-(-stop // self.new) + margin) * self.old
        return periods * self.old, end, periods * self.new

    def stretch(self, waveform: Tensor, start: int, stop: int) -> Tensor:
        """Compute output samples start..stop of a waveform (C, N).

        Outside of its N samples the waveform is zero. Adds the taps in order and rounds to float32
        after each tap, as a convolution with fused multiply-add does. Another order would change
        quiet cells of the mel spectrogram by up to 1e-4.
        """
        index = torch.arange(start, stop)
        phase = index % self.new
        # The first input sample that each output sample needs
        first = index // self.new * self.old + self.first[phase]
        begin, end = int(first.min()), int(first.max()) + self.kernel.shape[1]
        samples = waveform.shape[1]
        inside = waveform[:, max(begin, 0) : min(end, samples)]
        padded = F.pad(inside, (max(-begin, 0), max(end - samples, 0))).double()
        kernel = self.kernel.double()
        out = waveform.new_zeros(len(waveform), stop - start)
        for tap in range(kernel.shape[1]):
            out = (out + padded[:, first - begin + tap] * kernel[phase, tap]).float()
        return out


def _kernel(phases: Tensor, taps: Tensor, old: int, new: int, base: float) -> Tensor:
    """Compute the kernel (P, T) in float32, with the released model's order of operations.

    A more exact kernel would change quiet cells of the mel spectrogram by up to 1e-3.
    """
    t = ((-phases).float() / new + taps.float() / old) * base
    t = t.clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(t * math.pi / LOWPASS_WIDTH / 2) ** 2
    t = t * math.pi
    sinc = torch.where(t == 0, torch.ones_like(t), t.sin() / t)
    return sinc * (window * (base / old))
