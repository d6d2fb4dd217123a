"""`log_mel`, the features of audio, equals a slow formula in float64."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.fbank import log_mel, mel_filters


def slow_frame(frame: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    frame = frame - frame.mean()
    emphasised = np.array([s - 0.97 * frame[max(i - 1, 0)] for i, s in enumerate(frame)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    power = np.abs(np.fft.rfft(emphasised * window, 512)) ** 2

    def mel(hertz: float) -> float:
        return float(1127 * np.log(1 + hertz / 700))

    corners = np.linspace(mel(20), mel(8000), bins + 2)
    energies = []
    for left, center, right in zip(corners, corners[1:], corners[2:], strict=False):
        energy = 0.0
        for k in range(256):
            at = mel(k * 31.25)
            if left < at < right:
                slope = (at - left) / (center - left), (right - at) / (right - center)
                energy += min(slope) * power[k]
        energies.append(max(energy, 1.1920929e-07))
    return np.log(energies)


@pytest.mark.parametrize("bins", [128, 40])
def test_equals_the_slow_formula(bins: int) -> None:
    waveform = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)) * 0.1
    features = log_mel(waveform, bins)
    assert features.shape == (2, 4, bins)
    for sample, its_features in zip(waveform, features, strict=True):
        for number, row in enumerate(its_features):
            frame = sample[160 * number :][:400].double().numpy()
            np.testing.assert_allclose(row.numpy(), slow_frame(frame, bins), atol=2e-3)


def test_filter_3_is_empty() -> None:
    """As in the released code, all weights of filter 3 are zero, so that its energy is the smallest
    possible.
    """
    empty = (mel_filters(128).sum(1) == 0).nonzero().flatten()
    assert empty.tolist() == [3]
    assert log_mel(torch.randn(1, 400), 128)[0, 0, 3].item() == pytest.approx(-15.942385)


def test_silence_is_finite() -> None:
    assert log_mel(torch.zeros(1, 400), 128).isfinite().all()
