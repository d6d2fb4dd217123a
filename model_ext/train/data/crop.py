"""The released training transform of pictures: a random crop, resized, without mirroring.

The transform resizes with Pillow, as inference does. Shapes: S the side of the encoder's input.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

AREA = (0.9, 1.0)
ASPECT = (0.75, 4 / 3)
MAX_TRIES = 10


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Tensor:
    """Return (3, S, S) uint8: a crop of 90-100% of the area, or a centre crop if no random crop
    fits.
    """
    left, top, width, height = _box(image.width, image.height, rng)
    crop = image.resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + width, top + height)
    )
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def _box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, width and height in pixels."""
    for _ in range(MAX_TRIES):
        area = width * height * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(width - wide + 1))
            return left, int(rng.integers(height - high + 1)), wide, high
    wide = min(width, round(height * ASPECT[1]))
    high = min(height, round(width / ASPECT[0]))
    return (width - wide) // 2, (height - high) // 2, wide, high
