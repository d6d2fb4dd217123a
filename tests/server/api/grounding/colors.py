"""Pictures, and a detector that finds the pixels of a color, so that tests know the right boxes."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from model_ext.grounding.detector import Detection, Query, Takes
from tests.server.api.exchanges import check_error

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorDetector:
    takes: Takes = "texts"
    threshold = 0.5

    def __init__(self) -> None:
        self.calls: list[int] = []  # number of pictures in each call

    def detect(
        self,
        pictures: Sequence[np.ndarray],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        self.calls.append(len(pictures))
        return [
            [each for index, query in enumerate(own) for each in find(picture, index, query.text)]
            if threshold < 0.9
            else []
            for picture, own in zip(pictures, queries, strict=True)
        ]


def find(picture: np.ndarray, index: int, text: str) -> list[Detection]:
    for name, color in COLORS.items():
        if name in text.split():
            rows, columns = np.nonzero(np.abs(picture.astype(int) - color).max(2) < 60)
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                left, top, right, bottom = map(float, box)
                return [Detection(index, (left, top, right, bottom), 0.9)]
    return []


def picture(
    *shapes: tuple[str, tuple[int, int, int, int]], size: tuple[int, int] = (80, 60)
) -> Image.Image:
    """Make a white picture with colored rectangles (left, top, right, bottom)."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for name, (left, top, right, bottom) in shapes:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=COLORS[name])
    return image


def part(image: Image.Image, **options: Any) -> dict[str, Any]:
    """Make a content part with the picture as PNG. `options`: options of Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def error_of(response: Any, status: int) -> dict[str, Any]:
    """Return the error object of a response, after checking its form."""
    check_error(response, status)
    error: dict[str, Any] = response.json()["error"]
    return error
