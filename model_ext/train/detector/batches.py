"""Compose batches of training scenes on the device that trains.

The scenes follow the rules of `scenes.py`, which composes the scenes that calibrate and evaluate a
detector. Drawings also vary in shape and color here, so that the detector recognises drawings of
other styles. Random numbers are drawn on the CPU, except the backgrounds' grain.
Shapes: M drawings, s side of a stored drawing, B scenes, S side of a scene, N slots for drawings.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.image import normalize
from model_ext.train.detector.places import outlines, places
from model_ext.train.detector.scenes import RATIO, VISIBLE
from model_ext.train.detector.textures import TEXTURES
from model_ext.train.encoders.augment import MAX_BEND, chance, color_maps, uniform

TILT = 0.35  # maximum rotation of a drawing in radians
STRETCH = 0.15  # maximum change of a drawing's width, relative to its height
NARROW = 0.4  # share of the scenes that are not square
GRAIN = 8 / 255  # maximum standard deviation of a background's noise
TINT = 0.6  # maximum share of a random color in a drawing


@dataclass(frozen=True, slots=True)
class SceneBatch:
    pictures: Tensor  # The normalised pixels (B, 3, S, S). Pixels outside of the scene are 0.
    boxes: Tensor  # Shape (B, N, 4): left, top, right, bottom in pixels, or 0 in an empty slot.
    drawings: Tensor  # Shape (B, N): index of each box's drawing.

    @property
    def filled(self) -> Tensor:
        """Whether each slot has a box (B, N)."""
        return self.boxes[..., 2] > self.boxes[..., 0]


class Composer:
    def __init__(
        self,
        drawings: Tensor,
        weights: Tensor,
        side: int,
        slots: int,
        backgrounds: int,
        device: torch.device | str,
        seed: int,
    ) -> None:
        """`drawings` (M, 4, s, s) uint8, `weights` (M,): how often each drawing is used."""
        self.side, self.slots, self.device = side, slots, torch.device(device)
        self.weights = weights
        self.drawings = drawings.to(self.device)
        self.extents = extents(drawings)
        self.textures = textures(backgrounds, side, seed).to(self.device)

    def compose(self, count: int, g: Generator) -> SceneBatch:
        """Place 1 to `slots` drawings in each of `count` scenes."""
        picks = torch.multinomial(self.weights, count * self.slots, replacement=True, generator=g)
        picks = picks.view(count, self.slots)
        sizes = _sizes(count, self.side, g)
        maps = _shapes((count, self.slots), self.side, g)
        wanted = torch.randint(1, self.slots + 1, (count,), generator=g)
        outline = outlines(self.extents[picks], maps)
        middles, used = places(outline, sizes, wanted, g)
        canvas = self._background(count, g)
        inside = self._inside(sizes)
        boxes = []
        for slot in range(self.slots):
            layer, alpha = self._layer(picks[:, slot], maps[:, slot], middles[:, slot], g)
            alpha = alpha * (inside & used[:, slot].to(self.device)[:, None, None])[:, None]
            canvas = canvas + alpha * (layer - canvas)
            boxes.append(enclosing(alpha[:, 0] >= VISIBLE / 255))
        pictures = normalize(canvas.clamp(0, 1) * 255) * inside[:, None]
        return SceneBatch(pictures, torch.stack(boxes, dim=1), picks.to(self.device))

    def _inside(self, sizes: Tensor) -> Tensor:
        """Return which pixels (B, S, S) belong to scenes of these widths and heights (B, 2)."""
        ruler = torch.arange(self.side, device=self.device)
        inside = ruler < sizes.to(self.device)[:, :, None]
        return inside[:, 0, None, :] & inside[:, 1, :, None]

    def _background(self, count: int, g: Generator) -> Tensor:
        """Mix two colors with a stored texture, or with the product of two, and add noise."""
        mix, other = (self._texture(count, g) for _ in range(2))
        both = chance((count, 1, 1, 1), 0.3, g).to(self.device)
        mix = torch.where(both, mix * other, mix)
        first, second = (torch.rand((count, 3, 1, 1), generator=g) for _ in range(2))
        contrast = (second - first) * uniform((count, 1, 1, 1), 0.1, 1, g)
        deviation = uniform((count, 1, 1, 1), 0, GRAIN, g).to(self.device)
        seed = int(torch.randint(2**62, (), generator=g))
        own = torch.Generator(self.device).manual_seed(seed)
        grain = torch.randn(mix.shape, generator=own, device=self.device) * deviation
        pixels = first.to(self.device) + contrast.to(self.device) * mix + grain
        return pixels.clamp(0, 1)

    def _texture(self, count: int, g: Generator) -> Tensor:
        """Return stored textures (B, 1, S, S), mirrored as often as not."""
        rows = torch.randint(len(self.textures), (count,), generator=g).to(self.device)
        stored = self.textures[rows].float()[:, None] / 255
        for axis in (2, 3):
            mirrored = chance((count, 1, 1, 1), 0.5, g).to(self.device)
            stored = torch.where(mirrored, stored.flip(axis), stored)
        return stored

    def _layer(
        self, picks: Tensor, maps: Tensor, middles: Tensor, g: Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one drawing into each scene. Returns colors (B, 3, S, S) and alpha (B, 1, S, S)."""
        count, side = len(picks), self.side
        rgba = self.drawings[picks.to(self.device)].float() / 255
        rgba = torch.cat([self._colored(rgba[:, :3], g) * rgba[:, 3:], rgba[:, 3:]], dim=1)
        # A pixel of the scene has the length `step` in the stored drawing.
        step = rgba.shape[-1] / (2 * maps.square().sum(1).sqrt().amin(1))
        rgba = blurred(rgba, step.to(self.device))
        inverse = torch.linalg.inv(maps)
        shift = inverse @ (side / 2 - middles)[..., None]
        camera = torch.cat([inverse * (side / 2), shift], dim=2).to(self.device)
        grid = F.affine_grid(camera, [count, 4, side, side], align_corners=False)
        deviation = uniform((count, 1, 1, 1), 0, MAX_BEND, g) * chance((count, 1, 1, 1), 0.5, g)
        noise = (torch.randn((count, 2, 4, 4), generator=g) * deviation).to(self.device)
        bend = F.grid_sample(noise, grid, padding_mode="border", align_corners=False)
        view = F.grid_sample(rgba, grid + bend.permute(0, 2, 3, 1), align_corners=False)
        alpha = view[:, 3:]
        return view[:, :3] / alpha.clamp_min(1e-4), alpha

    def _colored(self, rgb: Tensor, g: Generator) -> Tensor:
        """Vary the colors (B, 3, s, s) of drawings, and tint some of them."""
        count = len(rgb)
        colors = color_maps(count, g)
        plain = chance((count,), 0.3, g)
        colors[plain] = torch.eye(3, 4)
        share = uniform((count, 1, 1, 1), 0, TINT, g) * chance((count, 1, 1, 1), 0.3, g)
        tint, share = torch.rand((count, 3, 1, 1), generator=g).to(rgb), share.to(rgb)
        colors = colors.to(rgb)
        rgb = torch.einsum("bij,bjhw->bihw", colors[:, :, :3], rgb) + colors[:, :, 3, None, None]
        return torch.lerp(rgb, tint, share).clamp(0, 1)


def _sizes(count: int, side: int, g: Generator) -> Tensor:
    """Draw widths and heights (B, 2) of scenes whose longer side is `side`."""
    short = (side * uniform((count,), 0.5, 1, g)).floor()
    axis = torch.randint(2, (count,), generator=g)
    sizes = torch.full((count, 2), float(side))
    narrow = chance((count,), NARROW, g)
    sizes[narrow, axis[narrow]] = short[narrow]
    return sizes


def _shapes(shape: tuple[int, int], side: int, g: Generator) -> Tensor:
    """Draw linear maps (B, N, 2, 2) from the square [-1, 1] of a drawing to pixels: size, aspect
    ratio, mirror and tilt.
    """
    half = side * 0.8 * torch.pow(float(RATIO), -torch.rand(shape, generator=g)) / 2
    mirror = torch.where(chance(shape, 0.5, g), -1.0, 1.0)
    width = half * uniform(shape, 1 - STRETCH, 1 + STRETCH, g) * mirror
    tilt = uniform(shape, -TILT, TILT, g) * chance(shape, 0.5, g)
    cos, sin = tilt.cos(), tilt.sin()
    return torch.stack([cos * width, -sin * half, sin * width, cos * half], -1).view(*shape, 2, 2)


def textures(count: int, side: int, seed: int) -> Tensor:
    """Make `count` textures (count, S, S) uint8, all kinds in turn."""
    rng = np.random.default_rng([seed, side])
    made = [TEXTURES[number % len(TEXTURES)](rng, side, side) for number in range(count)]
    return torch.from_numpy(np.stack([(255 * each).astype(np.uint8) for each in made]))


def extents(drawings: Tensor) -> Tensor:
    """Return the boxes (M, 4) of the drawings' visible pixels, in the square [-1, 1]. The box of an
    invisible drawing is 0.
    """
    parts = torch.split(drawings[:, 3], 512)
    boxes = torch.cat([enclosing(alpha >= VISIBLE) for alpha in parts])
    empty = boxes[:, 2:3] == 0
    return (boxes * (2 / drawings.shape[-1]) - 1).masked_fill(empty, 0)


def enclosing(masks: Tensor) -> Tensor:
    """Return the smallest boxes (B, 4) that contain all true pixels of masks (B, H, W), or 0."""
    boxes = []
    for axis in (1, 2):
        some = masks.any(axis)
        first = some.float().argmax(1)
        last = some.shape[1] - some.flip(1).float().argmax(1)
        boxes.append(torch.stack([first, last], dim=1))
    corners = torch.stack(boxes, dim=2).flatten(1).float()
    return corners * masks.flatten(1).any(1, keepdim=True)


def blurred(rgba: Tensor, step: Tensor) -> Tensor:
    """Average over squares of 2 or 4 pixels where a pixel of the scene spans that many, so that
    small drawings are not aliased. `step` (B,) in pixels of the drawings (B, 4, s, s).
    """
    result = rgba
    for factor in (2, 4):
        if rgba.shape[-1] % factor == 0:
            small = F.avg_pool2d(rgba, factor)
            large = F.interpolate(small, rgba.shape[2:], mode="bilinear", align_corners=False)
            result = torch.where((step > 0.75 * factor)[:, None, None, None], large, result)
    return result
