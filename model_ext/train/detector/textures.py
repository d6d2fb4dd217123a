"""Random backgrounds of scenes: flat colors, gradients, noise and patterns."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
Texture = Callable[[np.random.Generator, int, int], Pixels]  # (H, W) with values from 0 to 1


def background(
    rng: np.random.Generator, height: int, width: int, textures: tuple[Texture, ...] | None = None
) -> NDArray[np.uint8]:
    """Make a picture (H, W, 3) that mixes two colors with a random texture, and adds some noise."""
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    second = first + (second - first) * rng.uniform(0.1, 1)
    draw = (textures or TEXTURES)[rng.integers(len(textures or TEXTURES))]
    mix = draw(rng, height, width)[..., None]
    grain = rng.normal(0, rng.uniform(0, 8), (height, width, 1)).astype(np.float32)
    pixels = np.clip(first + (second - first) * mix + grain, 0, 255)
    return np.asarray(pixels, np.uint8)


def flat(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return np.full((height, width), rng.uniform(0, 1), np.float32)


def gradient(rng: np.random.Generator, height: int, width: int) -> Pixels:
    along = _along(rng, height, width)
    return np.asarray((along - along.min()) / (np.ptp(along) + 1e-6), np.float32)


def clouds(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise of three sizes."""
    total = np.zeros((height, width), np.float32)
    for _ in range(3):
        cells = rng.integers(2, 25, 2)
        noise = Image.fromarray(rng.uniform(0, 1, cells).astype(np.float32))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(total / 3, 0, 1)


def stripes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return (_along(rng, height, width) % 1 < rng.uniform(0.3, 0.7)).astype(np.float32)


def checks(rng: np.random.Generator, height: int, width: int) -> Pixels:
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 48)
    one = _lines(angle, period, height, width) % 1 < 0.5
    other = _lines(angle + np.pi / 2, period, height, width) % 1 < 0.5
    return (one ^ other).astype(np.float32)


def dots(rng: np.random.Generator, height: int, width: int) -> Pixels:
    angle, period = rng.uniform(0, np.pi), rng.uniform(10, 40)
    x = _lines(angle, period, height, width) % 1 - 0.5
    y = _lines(angle + np.pi / 2, period, height, width) % 1 - 0.5
    return np.asarray(x**2 + y**2 < rng.uniform(0.01, 0.12), np.float32)


def waves(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Bent stripes. This texture is held out: training does not use it."""
    bend = rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * _along(rng, height, width))
    waves_of = np.sin(2 * np.pi * (_along(rng, height, width) + bend))
    return np.asarray(0.5 + 0.5 * waves_of, np.float32)


def bricks(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Rows of rectangles like bricks. This texture is held out: training does not use it."""
    tall = rng.uniform(8, 24)
    y, x = np.mgrid[:height, :width] / tall
    x = x / rng.uniform(1.5, 3) + 0.5 * (np.floor(y) % 2)
    return np.asarray((y % 1 > 0.12) & (x % 1 > 0.06), np.float32)


def _along(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return _lines(rng.uniform(0, np.pi), rng.uniform(6, 60), height, width)


def _lines(angle: float, period: float, height: int, width: int) -> Pixels:
    """Compute the position of each pixel along a direction, in units of `period` pixels."""
    y, x = np.mgrid[:height, :width]
    along: Pixels = ((x * np.cos(angle) + y * np.sin(angle)) / period).astype(np.float32)
    return along


TEXTURES: tuple[Texture, ...] = (flat, gradient, clouds, stripes, checks, dots)
HELD_OUT: tuple[Texture, ...] = (waves, bricks)
