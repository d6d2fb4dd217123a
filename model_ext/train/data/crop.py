"""The released training transform of pictures: a random crop, resized. No flip.

Pillow's arithmetic, as at inference. Knows one picture; shapes: S the encoder's side.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

AREA = (0.9, 1.0)
ASPECT = (0.75, 4 / 3)
TRIES = 10


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Tensor:
    """(3, S, S) uint8 of a crop with 90-100% of the area; the middle if none fits."""
    left, top, width, height = _box(image.width, image.height, rng)
    crop = image.resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + width, top + height)
    )
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def _box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(TRIES):
        area = width * height * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(width - wide + 1))
            return left, int(rng.integers(height - high + 1)), wide, high
    wide = min(width, round(height * ASPECT[1]))
    high = min(height, round(width / ASPECT[0]))
    return (width - wide) // 2, (height - high) // 2, wide, high
