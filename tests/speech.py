"""A synthesized sentence (by espeak-ng), and its samples as the speech expert gets them."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

FACT = Path(__file__).parent / "fixtures" / "speech" / "fact.flac"  # 16 kHz, one channel
WORDS = ("meeting", "tuesday", "noon", "room")


def samples_of(path: Path) -> NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16_000
    return np.asarray(samples, np.int16)
