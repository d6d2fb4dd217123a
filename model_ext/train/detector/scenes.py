"""Compose drawings into scenes whose boxes are known.

Shapes: M drawings, N boxes of a scene, S side of the scene.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_ext.train.detector.textures import Texture, background

RATIO = 6  # Maximum ratio of the sides of a scene's largest and smallest drawing.
MAX_COVERED = 0.3  # Maximum share of the smaller of two boxes that the other box covers.
TRIES = 12
VISIBLE = 64  # minimum alpha of a drawing's visible pixels


@dataclass(frozen=True, slots=True)
class Scene:
    picture: NDArray[np.uint8]  # The pixels, shape (H, W, 3).
    boxes: NDArray[np.float32]  # Shape (N, 4): left, top, right, bottom in pixels.
    drawings: tuple[int, ...]  # Index of each box's drawing.


def compose(
    drawings: NDArray[np.uint8],
    rng: np.random.Generator,
    side: int,
    max_drawings: int,
    textures: tuple[Texture, ...] | None = None,
) -> Scene:
    """Place 1 to `max_drawings` of the drawings (M, 4, s, s) on a background. The longer side of
    the scene is `side`.
    """
    height, width = side, side
    if rng.random() < 0.4:
        short = int(side * rng.uniform(0.5, 1))
        height, width = (short, side) if rng.random() < 0.5 else (side, short)
    canvas = Image.fromarray(background(rng, height, width, textures))
    boxes: list[tuple[int, int, int, int]] = []
    chosen: list[int] = []
    for _ in range(rng.integers(1, max_drawings + 1)):
        index = int(rng.integers(len(drawings)))
        drawing, outline = _varied(drawings[index], rng, side)
        if outline is None:
            continue
        place = _place(outline, boxes, rng, height, width)
        if place is not None:
            canvas.paste(drawing, place, drawing)
            left, top, right, bottom = outline
            x, y = place
            boxes.append((x + left, y + top, x + right, y + bottom))
            chosen.append(index)
    return Scene(np.asarray(canvas), np.array(boxes, np.float32).reshape(-1, 4), tuple(chosen))


def _varied(
    drawing: NDArray[np.uint8], rng: np.random.Generator, side: int
) -> tuple[Image.Image, tuple[int, int, int, int] | None]:
    """Scale, mirror and tilt a drawing at random. Returns the drawing and the box of its visible
    pixels.
    """
    size = int(side * 0.8 * RATIO ** -rng.random())
    stretch = rng.uniform(0.85, 1.15)
    image = Image.fromarray(drawing.transpose(1, 2, 0)).resize(
        (max(4, int(size * stretch)), max(4, size)), Image.Resampling.BILINEAR
    )
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        image = image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR)
    mask = image.getchannel("A").point(lambda alpha: 255 * (alpha >= VISIBLE))
    return image, mask.getbbox()


def _place(
    outline: tuple[int, int, int, int],
    boxes: list[tuple[int, int, int, int]],
    rng: np.random.Generator,
    height: int,
    width: int,
) -> tuple[int, int] | None:
    """Choose a place where the drawing is inside the scene and covers at most MAX_COVERED of
    another box.
    """
    left, top, right, bottom = outline
    if right - left > width or bottom - top > height:
        return None
    for _ in range(TRIES):
        x = int(rng.integers(-left, width - right + 1))
        y = int(rng.integers(-top, height - bottom + 1))
        box = (x + left, y + top, x + right, y + bottom)
        if all(_covered(box, other) <= MAX_COVERED for other in boxes):
            return x, y
    return None


def _covered(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Compute the share of the smaller box that the other box covers."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0, width) * max(0, height) / smaller
