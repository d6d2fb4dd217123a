"""Compute log mel spectrograms as Kaldi does, for batches of 16 kHz waveforms, in plain torch.

Shapes: B waveforms, N samples, F frames, M mel bins.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

RATE = 16_000
WINDOW = 400  # Samples in a frame: 25 ms at 16 kHz.
SHIFT = 160  # Samples between the starts of two frames: 10 ms at 16 kHz.
FFT = 512
PREEMPHASIS = 0.97
LOWEST, HIGHEST = 20.0, 8000.0  # Lowest and highest frequency of the filters in Hz.
FLOOR = torch.finfo(torch.float32).eps  # Energies below FLOOR become FLOOR before the log.


def log_mel(waveforms: Tensor, mel_bins: int) -> Tensor:
    """Compute log mel features: (B, N) -> (B, F, M).

    N >= WINDOW. A partial last frame is dropped.
    """
    frames = waveforms.unfold(1, WINDOW, SHIFT)
    frames = frames - frames.mean(-1, keepdim=True)
    previous = F.pad(frames, (1, 0), mode="replicate")[..., :-1]
    frames = (frames - PREEMPHASIS * previous) * torch.hann_window(WINDOW, periodic=False)
    power = torch.fft.rfft(frames, n=FFT).abs().square()
    energy = power[..., : FFT // 2] @ mel_filters(mel_bins).T
    features: Tensor = energy.clamp(min=FLOOR).log()
    return features


@lru_cache(maxsize=4)
def mel_filters(mel_bins: int) -> Tensor:
    """Return the weights (M, FFT / 2) of triangular filters, which are evenly spaced on the mel
    scale.
    """
    lowest, highest = mel(LOWEST), mel(HIGHEST)
    step = (highest - lowest) / (mel_bins + 1)
    corner = torch.arange(mel_bins, dtype=torch.float32)[:, None]
    left, center, right = (lowest + (corner + shift) * step for shift in (0, 1, 2))
    bins = 1127 * torch.log(1 + RATE / FFT * torch.arange(FFT // 2, dtype=torch.float32) / 700)
    up = (bins - left) / (center - left)
    down = (right - bins) / (right - center)
    return torch.minimum(up, down).clamp(min=0)


def mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)
