"""Draw pictures of words and of receipts, with Pillow's built-in font.

The evaluation set of the demonstration model contains these pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COUNT = 16
SIDE = 320  # width and height of the pictures in pixels
NAMES = ("Northwind", "Bluebell", "Hilltop", "Riverside", "Maple", "Harbour", "Sunrise", "Copper")
KINDS = ("Bakery", "Hardware", "Books", "Coffee", "Market", "Garden")
STREETS = ("Mill Road", "Station Street", "Park Lane", "King Street", "Church Road")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The text on one receipt. The fields have the names that the data set SROIE uses."""

    number: int
    company: str
    date: str
    address: str
    total: str


def receipts(seed: int) -> Iterator[Receipt]:
    """Generate receipts of invented companies. The same seed gives the same receipts."""
    generator = np.random.default_rng([seed, 4])
    for number in range(COUNT):
        day, month = generator.integers(1, 29), generator.integers(1, 13)
        yield Receipt(
            number=number,
            company=f"{generator.choice(NAMES)} {generator.choice(KINDS)}",
            date=f"{day:02d}/{month:02d}/2024",
            address=f"{generator.integers(1, 200)} {generator.choice(STREETS)}",
            total=f"{generator.integers(100, 9999) / 100:.2f}",
        )


def write_word(word: str, path: Path) -> None:
    """Write a picture (SIDE x SIDE) with one word in its middle."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    font = ImageFont.load_default(size=480 // max(len(word), 6))
    draw = ImageDraw.Draw(image)
    draw.text((SIDE / 2, SIDE / 2), word, fill="black", font=font, anchor="mm")
    save(image, path)


def write_receipt(receipt: Receipt, path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    lines = [receipt.company, receipt.address, "", f"Date {receipt.date}", f"Total {receipt.total}"]
    for row, line in enumerate(lines):
        size = 30 if row == 0 else 24
        draw.text((20, 30 + 50 * row), line, fill="black", font=ImageFont.load_default(size=size))
    save(image, path)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
