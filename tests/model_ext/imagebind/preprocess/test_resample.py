"""The resampler gives the samples of a dense convolution, which the released code uses."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.resample import Resampler, _kernel

RATES = (8000, 11025, 22050, 24000, 44100, 48000, 96000)


def dense(waveform: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Resample (C, N) to (C, R) by a strided convolution with one kernel per phase."""
    common = math.gcd(old_rate, new_rate)
    old, new = old_rate // common, new_rate // common
    base = 0.99 * min(old, new)
    width = math.ceil(6 * old / base)
    taps = torch.arange(-width, width + old)[None]
    kernel = _kernel(torch.arange(new)[:, None], taps, old, new, base)
    padded = F.pad(waveform, (width, width + old))
    phases = F.conv1d(padded[:, None], kernel[:, None], stride=old)
    return phases.transpose(1, 2).flatten(1)[:, : math.ceil(new * waveform.shape[1] / old)]


@pytest.mark.parametrize("rate", RATES)
def test_equals_the_dense_convolution(rate: int) -> None:
    waveform = torch.randn(2, 3001, generator=torch.Generator().manual_seed(rate))
    resampler = Resampler(rate, 16000)
    expected = dense(waveform, rate, 16000)
    assert resampler.length(3001) == expected.shape[1]
    whole = resampler.stretch(waveform, 0, expected.shape[1])
    torch.testing.assert_close(whole, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rate", [*RATES, 44101])
def test_a_stretch_equals_that_part_of_the_whole(rate: int) -> None:
    waveform = torch.randn(1, 5000)
    resampler = Resampler(rate, 16000)
    length = resampler.length(5000)
    whole = resampler.stretch(waveform, 0, length)
    for start, stop in ((0, 1), (7, 500), (length - 300, length)):
        assert torch.equal(resampler.stretch(waveform, start, stop), whole[:, start:stop])


@pytest.mark.parametrize("rate", [1000, *RATES, 44101, 191_999])
def test_the_needed_samples_are_enough(rate: int) -> None:
    waveform = torch.randn(1, 4 * rate)
    resampler = Resampler(rate, 16000)
    length = resampler.length(4 * rate)
    for start, stop in ((0, 900), (16001, 16444), (40_000, 40_010), (length - 3, length)):
        first, last, skipped = resampler.needed(start, stop)
        piece = waveform[:, first : min(last, 4 * rate)]
        assert first % resampler.old == 0
        assert torch.equal(
            resampler.stretch(piece, start - skipped, stop - skipped),
            resampler.stretch(waveform, start, stop),
        )


@pytest.mark.parametrize("rate", [1000, 8000, 44100, 44101, 48000, 192000, 383_999])
def test_a_tone_stays_a_tone(rate: int) -> None:
    """A tone keeps its frequency, also at rates that have no common divisor with 16000."""
    hertz = 200
    source = torch.sin(2 * torch.pi * hertz * torch.arange(rate // 2, dtype=torch.float64) / rate)
    resampler = Resampler(rate, 16000)
    got = resampler.stretch(source.float()[None], 3000, 5000)[0]
    time = torch.arange(3000, 5000, dtype=torch.float64) / 16000
    torch.testing.assert_close(
        got.double(), torch.sin(2 * torch.pi * hertz * time), rtol=0, atol=1e-2
    )
    assert resampler.kernel.numel() < 20_000_000
