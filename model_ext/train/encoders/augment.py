"""Random variations of pictures, sounds and point clouds that keep the object recognisable.

Each function takes a batch and a generator, so that a step can be repeated exactly.

Shapes: B samples, S side of a stored picture, F frames, N points.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.train.encoders.samples import PAD

GREY = torch.tensor((0.299, 0.587, 0.114))
MAX_BEND = (
    0.06  # standard deviation of shifts, relative to half a picture's side or a cloud's radius
)


def uniform(shape: tuple[int, ...], low: float, high: float, g: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def chance(shape: tuple[int, ...], probability: float, g: Generator) -> Tensor:
    return torch.rand(shape, generator=g) < probability


def pictures(stored: Tensor, size: int, frames: int, g: Generator) -> Tensor:
    """Make a clip of each picture, in which a camera pans over the picture.

    (B, 4, S, S) uint8 -> (B, 1, 3, F, size, size)
    """
    rgba = stored.float() / 255
    start = _camera(len(stored), g)
    moves = chance((len(stored),), 0.3, g)[:, None, None]
    end = torch.where(moves, start + 0.35 * (_camera(len(stored), g) - start), start)
    bent = _bends(len(stored), size, g)
    colors = color_maps(len(stored), g)
    ground = _grounds(len(stored), g)
    # Multiply by alpha before interpolating, so that the colours of transparent pixels have no
    # effect.
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    views = []
    for frame in range(frames):
        t = frame / max(1, frames - 1)
        camera = (1 - t) * start + t * end
        grid = F.affine_grid(camera, [len(stored), 4, size, size], align_corners=False) + bent
        view = F.grid_sample(rgba, grid, padding_mode="zeros", align_corners=False)
        rgb = view[:, :3] + (1 - view[:, 3:]) * ground
        rgb = torch.einsum("bij,bjhw->bihw", colors[:, :, :3], rgb) + colors[:, :, 3, None, None]
        views.append((rgb.clamp(0, 1) - MEAN[:, None, None]) / STD[:, None, None])
    return torch.stack(views, dim=2)[:, None]


def plain_pictures(stored: Tensor, size: int, frames: int) -> Tensor:
    """Return the pictures without variation on a white background, (B, 1, 3, F, size, size)."""
    rgba = stored.float() / 255
    rgb = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
    rgb = F.interpolate(rgb, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    normal = (rgb - MEAN[:, None, None]) / STD[:, None, None]
    return normal[:, None, :, None].expand(-1, -1, -1, frames, -1, -1)


def _camera(count: int, g: Generator) -> Tensor:
    """Return random affine transformations (B, 2, 3): zoom, aspect ratio, tilt, mirror and
    shift.
    """
    zoom = torch.exp(uniform((count,), math.log(0.8), math.log(1.5), g))
    aspect = torch.exp(uniform((count,), -0.15, 0.15, g))
    tilt = uniform((count,), -0.25, 0.25, g)
    mirror = torch.where(chance((count,), 0.5, g), -1.0, 1.0)
    cos, sin = tilt.cos() * zoom, tilt.sin() * zoom
    linear = torch.stack([cos * aspect * mirror, -sin, sin * mirror, cos / aspect], dim=1)
    # Shifts are large, because the server also encodes crops of a video's sides, in which an object
    # is not in the centre.
    shift = uniform((count, 2, 1), -1, 1, g) * torch.tensor([[0.45], [0.25]])
    shift = shift * uniform((count, 1, 1), 0, 1, g)
    return torch.cat([linear.view(-1, 2, 2), shift], dim=2)


def _bends(count: int, size: int, g: Generator) -> Tensor:
    """Return smooth random shifts of all pixels (B, size, size, 2), which resemble the differences
    between two drawings of one object.
    """
    deviation = uniform((count, 1, 1, 1), 0, MAX_BEND, g)
    coarse = torch.randn((count, 2, 4, 4), generator=g) * deviation
    fine = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    return fine.permute(0, 2, 3, 1)


def color_maps(count: int, g: Generator) -> Tensor:
    """Return random affine transformations of colours (B, 3, 4): saturation, mixed channels,
    contrast and brightness.
    """
    grey = GREY.expand(3, 3)
    saturation = uniform((count, 1, 1), 0.3, 1.5, g)
    saturation[chance((count,), 0.15, g)] = 0
    mixed = torch.eye(3) + uniform((count, 3, 3), -0.25, 0.25, g) * chance((count, 1, 1), 0.5, g)
    mixed = mixed / mixed.sum(2, keepdim=True)  # normalise the rows, so that white stays unchanged
    colors = mixed @ (saturation * torch.eye(3) + (1 - saturation) * grey)
    contrast = uniform((count, 1, 1), 0.6, 1.3, g)
    offset = (1 - contrast) * 0.7 + uniform((count, 1, 1), -0.12, 0.12, g)
    return torch.cat([contrast * colors, offset.expand(-1, 3, 1)], dim=2)


def _grounds(count: int, g: Generator) -> Tensor:
    """Return background colours (B, 3, 1, 1): mostly white, else a light colour or any colour."""
    ground = torch.ones(count, 3, 1, 1)
    light, any_color = chance((count,), 0.4, g), chance((count,), 0.15, g)
    light_colors, any_colors = (
        uniform((count, 3, 1, 1), 0.6, 1, g),
        uniform((count, 3, 1, 1), 0, 1, g),
    )
    ground[light] = light_colors[light]
    ground[any_color] = any_colors[any_color]
    return ground


# The normalised value of the lowest level in a spectrogram
SILENCE = (math.log(1.1920929e-07) + 4.268) / 9.138


def sounds(stored: Tensor, g: Generator) -> Tensor:
    """Vary pitch, pace, start, loudness and noise of spectrograms.

    (B, mel, T) -> (B, 1, 1, mel, T)
    """
    mel = stored.float()
    count, bins, length = mel.shape
    # Return a mask (B, T) of the frames that are not padding. The comparison has a tolerance,
    # because float16 rounds the value of padding by up to 2e-4.
    spoken = (mel - PAD).abs().amax(1) > 1e-2
    frames = spoken.sum(1)
    filled = torch.where(spoken[:, None], mel, torch.full_like(mel, SILENCE))
    # Stretch the spectrogram along the mel axis, which changes pitch and vocal tract, and along
    # time, which changes the pace.
    pitch = torch.exp(uniform((count,), -0.1, 0.1, g))
    pace = torch.exp(uniform((count,), -0.15, 0.15, g))
    new_frames = (frames / pace).clamp(max=length)
    lead = uniform((count,), 0, MAX_LEAD, g)
    lead[chance((count,), 0.5, g)] = 0
    lead = torch.minimum(lead, (length - new_frames).clamp(min=0))
    rows = (torch.arange(bins)[None] * pitch[:, None] + 0.5) / bins * 2 - 1
    columns = ((torch.arange(length)[None] - lead[:, None]) * pace[:, None] + 0.5) / length * 2 - 1
    grid = torch.stack(
        [columns[:, None].expand(-1, bins, -1), rows[:, :, None].expand(-1, -1, length)], dim=-1
    )
    shifted = F.grid_sample((filled - SILENCE)[:, None], grid, align_corners=False)[:, 0] + SILENCE
    # Adding 0.11 to normalised values multiplies the power by e.
    loud = shifted + uniform((count, 1, 1), -0.3, 0.2, g)
    tilt = torch.linspace(-1, 1, bins)[None, :, None] * uniform((count, 1, 1), -0.15, 0.15, g)
    floor = uniform((count, 1, 1), SILENCE, -0.4, g)
    floor[chance((count,), 0.5, g)] = SILENCE
    noise = floor + 0.05 * torch.randn(mel.shape, generator=g)
    noisy = torch.logaddexp((loud + tilt) * STD_NATS, noise * STD_NATS) / STD_NATS
    after = torch.arange(length)[None] >= (lead + new_frames)[:, None].clamp(min=1).ceil()
    return torch.where(after[:, None], torch.full_like(noisy, PAD), noisy)[:, None, None]


MAX_LEAD = 20  # Maximum number of empty 10 ms frames before the sound.
STD_NATS = 9.138  # A normalised value times STD_NATS is a natural log power.


def clouds(stored: Tensor, points: int, g: Generator) -> Tensor:
    """Sample points, then bend, stretch, mirror and rotate each cloud and add noise.

    (B, N, 3) -> (B, points, 3) in the unit sphere
    """
    count, available = stored.shape[:2]
    order = torch.rand(count, available, generator=g).argsort(1)[:, :points]
    cloud = stored.float().gather(1, order[..., None].expand(-1, -1, 3))
    stretch = torch.exp(uniform((count, 1, 3), -0.25, 0.25, g))
    mirror = torch.ones(count, 1, 3)
    mirror[:, :, 0] = torch.where(chance((count, 1), 0.5, g), -1.0, 1.0)
    cloud = _bend(cloud, g) * stretch * mirror
    for axis, max_angle in ((1, 0.6), (0, 0.3), (2, 0.35)):
        cloud = _rotate(cloud, axis, uniform((count, 1), -max_angle, max_angle, g))
    cloud = cloud + 0.01 * torch.randn(cloud.shape, generator=g)
    cloud = cloud - cloud.mean(1, keepdim=True)
    radius = cloud.square().sum(2).amax(1).sqrt()
    return cloud / radius[:, None, None]


def _bend(cloud: Tensor, g: Generator) -> Tensor:
    """Shift each point by waves, which are about as long as the cloud is wide."""
    count = len(cloud)
    # frequency of the waves, in radians per radius of the cloud
    waves = torch.randn((count, 3, 3), generator=g) * 2.0
    phases = uniform((count, 1, 3), 0, 2 * math.pi, g)
    shifts = torch.randn((count, 3, 3), generator=g) * uniform((count, 1, 1), 0, MAX_BEND, g)
    return cloud + (cloud @ waves + phases).sin() @ shifts


def _rotate(cloud: Tensor, axis: int, angle: Tensor) -> Tensor:
    """Rotate clouds (B, N, 3) around an axis by angles (B, 1) in radians."""
    a, b = [other for other in range(3) if other != axis]
    cos, sin = angle.cos(), angle.sin()
    rotated = cloud.clone()
    rotated[..., a] = cos * cloud[..., a] - sin * cloud[..., b]
    rotated[..., b] = sin * cloud[..., a] + cos * cloud[..., b]
    return rotated
