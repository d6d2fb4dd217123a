"""Measure the share of words in rendered texts that the OCR expert reads correctly.

    python -m tests.experts.ocr_words --texts 200

The texts have 10 fonts (from matplotlib), sizes from 12 to 48 pixels and 3 kinds of background, and
are rotated by up to 10 degrees.
"""

import argparse
import random
import time
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_ext.experts.ocr import load
from tests.experts.texts import sentence, shared, words

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
NAMES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Italic"),
    *("DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10"),
)
BACKGROUNDS = ("plain", "dark", "noisy")


def rendered(text: str, font: str, size: int, background: str, seed: int) -> Image.Image:
    choose = np.random.default_rng(seed)
    face = ImageFont.truetype(FONTS / f"{font}.ttf", size)
    width, height = (
        round(face.getlength(text)) + 4 * size,
        8 * size + round(face.getlength(text) / 4),
    )
    pixels = np.full((height, width, 3), 40 if background == "dark" else 245, np.float64)
    if background == "noisy":
        pixels -= np.linspace(0, 80, width)[None, :, None]
        pixels += choose.normal(0, 12, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    mask = Image.new("L", image.size)
    position = (2 * size, height // 2 - size // 2)
    ImageDraw.Draw(mask).text(position, text, 255, face)
    mask = mask.rotate(choose.uniform(-10, 10), Image.Resampling.BICUBIC)
    color = "white" if background == "dark" else "black"
    image.paste(Image.new("RGB", image.size, color), mask=mask)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args()
    ocr, choose = load(device="cpu", threads=1), random.Random(0)
    totals: dict[str, list[int]] = {}
    started = time.process_time()
    for number in range(options.texts):
        text, font = sentence(choose), NAMES[number % len(NAMES)]
        background = BACKGROUNDS[number % len(BACKGROUNDS)]
        size = choose.randint(12, 48)
        image = rendered(text, font, size, background, number)
        read = " ".join(ocr.lines(np.array(image)))
        for group in ("all", font, background, "12-19 px" if size < 20 else "20-48 px"):
            total = totals.setdefault(group, [0, 0])
            total[0] += shared(text, read)
            total[1] += len(words(text))
    for group, (right, count) in totals.items():
        print(f"{group:20} {right / count:7.1%} of {count} words")
    print(f"{time.process_time() - started:.0f} s of CPU time")


if __name__ == "__main__":
    main()
