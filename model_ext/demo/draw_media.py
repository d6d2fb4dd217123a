"""Draw the picture and ring the bell that `bindserve demo` asks about.

    python -m model_ext.demo.draw_media

Both are made here, from nothing, so that they carry nobody's rights. The files are committed.
"""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw

MEDIA = Path(__file__).parent / "media"
RATE = 44_100  # Hz


def balloon() -> Image.Image:
    """A red balloon over a green hill."""
    sky = np.linspace([120, 180, 250], [225, 240, 255], 480).astype(np.uint8)
    image = Image.fromarray(np.repeat(sky[:, None], 640, axis=1))
    draw = ImageDraw.Draw(image)
    draw.ellipse((-200, 330, 840, 900), fill=(90, 165, 80))
    draw.line((330, 230, 318, 345), fill=(80, 60, 50), width=3)
    draw.ellipse((240, 60, 420, 240), fill=(215, 40, 45))
    draw.ellipse((280, 90, 320, 140), fill=(240, 130, 130))
    return image


def bell(seconds: float = 3.0) -> np.ndarray:
    """A struck bell: partials that are no harmonics, the high ones dying first."""
    t = np.arange(int(seconds * RATE)) / RATE
    partials = [(0.5, 0.6), (1.0, 1.0), (1.19, 0.7), (1.56, 0.5), (2.0, 0.6), (2.51, 0.3)]
    sound = sum(a * np.sin(2 * np.pi * 440 * f * t) * np.exp(-1.5 * f * t) for f, a in partials)
    return 0.2 * np.asarray(sound)


if __name__ == "__main__":
    MEDIA.mkdir(exist_ok=True)
    balloon().save(MEDIA / "balloon.jpg", quality=90)
    soundfile.write(MEDIA / "bell.wav", bell(), RATE, subtype="PCM_16")
