"""Different small pictures and noise, as files."""

import base64
import io

import numpy as np
import soundfile
from PIL import Image


def picture(generator: np.random.Generator, side: int = 224) -> bytes:
    """Return a JPEG file with soft random colors."""
    colors = generator.integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(colors).resize((side, side), Image.Resampling.BILINEAR)
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def pictures(count: int, seed: int, side: int = 224) -> list[bytes]:
    generator = np.random.default_rng(seed)
    return [picture(generator, side) for _ in range(count)]


def noise(seconds: float, seed: int, rate: int = 16_000) -> bytes:
    """Return a WAV file with noise (16 bits, one channel)."""
    generator = np.random.default_rng(seed)
    file = io.BytesIO()
    samples = generator.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
