"""An hour of speech and noise in which words are planted. Needs the program espeak-ng.

The recording consists of cells of CELL_S seconds: a planted word, other speech (words that are not
planted, and sentences) or noise. The voices are those of the demonstration model's test split. The
loud parts of all cells have the same loudness (root mean square). Shapes: N samples of one channel.
"""

import io
import random
import subprocess
from dataclasses import dataclass
from functools import cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from model_ext.demo.splits import CONCEPTS, VOICES
from model_ext.imagebind.preprocess.speech import SpeechSamples
from tests.experts.texts import sentence, words

RATE = 16_000  # Hz
CELL_S = 3
PLANTS = 20
LOUDNESS = 0.1  # root mean square of the loud parts, relative to the largest sample
QUIET = 0.02  # samples below this fraction of the loudest sample are not loud
NOISE_SHARE = 0.3

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plant:
    concept: str
    start: float  # seconds
    end: float


@dataclass(frozen=True, slots=True)
class Recording:
    samples: Samples  # (N,) at RATE
    plants: tuple[Plant, ...]

    def wav(self) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, self.samples, RATE, format="WAV", subtype="PCM_16")
        return file.getvalue()

    def cut(self, start: float, end: float) -> bytes:
        """Return a file with the samples of this part, as in `wav`."""
        part = self.samples[round(start * RATE) : round(end * RATE)]
        return Recording(part, ()).wav()


def make_recording(seconds: float = 3600, seed: int = 0, plants: int = PLANTS) -> Recording:
    choose, noise = random.Random(seed), np.random.default_rng(seed)
    cells = int(seconds // CELL_S)
    planted = choose.sample(CONCEPTS, plants)
    # not next to each other, so that a result within one window names one plant
    places = sorted(2 * place for place in choose.sample(range(cells // 2), plants))
    concepts = dict(zip(places, planted, strict=True))
    others = [concept for concept in CONCEPTS if concept not in planted]
    parts, planted_words = [], list[Plant]()
    for cell in range(cells):
        voice = choose.choice(VOICES["test"])
        if cell in concepts:
            planted_words.append(Plant(concepts[cell], cell * CELL_S, (cell + 1) * CELL_S))
            part = spoken(concepts[cell], voice)
        elif choose.random() < NOISE_SHARE:
            part = colored_noise(noise)
        else:
            part = spoken(other_text(choose, others, planted), voice)
        parts.append(fitted(part, noise))
    rest = fitted(colored_noise(noise), noise)[: round(seconds * RATE) - cells * CELL_S * RATE]
    return Recording(np.concatenate([*parts, rest]), tuple(planted_words))


def other_text(choose: random.Random, others: list[str], planted: list[str]) -> str:
    """Choose a word or a sentence that contains no planted word."""
    if choose.random() < 0.5:
        return choose.choice(others)
    while True:
        text = sentence(choose)
        spoken_words = {word.removesuffix("s") for word in words(text)}
        if not spoken_words & {word.removesuffix("s") for word in planted}:
            return text


@cache
def spoken(text: str, voice: str) -> Samples:
    command = ["espeak-ng", "-v", f"en-us+{voice}", "-s", "150", "--stdout", "--", text]
    wav = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    sound, rate = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    speech = SpeechSamples(rate)
    samples = np.concatenate([speech.add(sound), speech.end()]).astype(np.float32) / 32768
    return loud(np.asarray(samples, np.float32))


def loud(samples: Samples) -> Samples:
    """Scale the samples so that their loud part has the loudness LOUDNESS."""
    level = np.abs(samples)
    part = samples[level > QUIET * level.max()]
    return np.asarray(samples * (LOUDNESS / np.sqrt(np.mean(part**2))), np.float32)


def colored_noise(generator: np.random.Generator) -> Samples:
    """Noise whose spectrum falls with a random power of the frequency (0: white, 1: pink)."""
    count = CELL_S * RATE
    spectrum = np.fft.rfft(generator.normal(size=count))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (generator.uniform(0, 1) / 2)
    spectrum[0] = 0
    samples = np.fft.irfft(spectrum, count).astype(np.float32)
    return np.asarray(samples * (LOUDNESS / np.sqrt(np.mean(samples**2))), np.float32)


def fitted(samples: Samples, generator: np.random.Generator) -> Samples:
    """Cut or pad the samples to a cell. The padding is noise 40 dB below the speech."""
    count = CELL_S * RATE
    cell = generator.normal(scale=LOUDNESS / 100, size=count).astype(np.float32)
    samples = samples[:count]
    cell[: len(samples)] += samples
    return np.clip(cell, -1, 1)
