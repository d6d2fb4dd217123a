"""Encoder inputs that are computed with formulas, to test whether an encoder's output has
changed.
"""

import torch
from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig


def probe(modality: str, config: ImageBindConfig) -> Tensor:
    """Make an input of one modality, with the shape that `ImageBind` expects (batch axis: 1)."""
    section = getattr(config, modality)
    match modality:
        case "vision":
            return wave(1, section.channels, section.image_size, section.image_size)
        case "text":
            # The largest token id is in the middle of the sequence, because the text encoder's
            # output is taken at the position of the largest id.
            length: int = section.context_length
            return (torch.arange(length) % (length // 2 + 1) + 1)[None]
        case "audio":
            return wave(1, 1, section.mel_bins, section.target_length)
        case "depth" | "thermal":
            return wave(1, 1, section.image_size, section.image_size)
        case "imu":
            return wave(1, section.channels, section.steps)
        case "point":
            return cloud(max(1024, section.group_size))
    raise ValueError(f"no probe for {modality!r}")


def wave(*shape: int) -> Tensor:
    """Compute numbers in [-1, 1] that never repeat: multiples of the golden ratio, modulo 1."""
    count = torch.Size(shape).numel()
    steps = torch.arange(1, count + 1, dtype=torch.float64) * 0.6180339887498949
    return (2 * (steps % 1) - 1).float().reshape(shape)


def cloud(points: int) -> Tensor:
    """Compute points (1, N, 3) that are spread evenly over a sphere."""
    count = torch.arange(points, dtype=torch.float64)
    height = 1 - (2 * count + 1) / points
    angle = count * 2.399963229728653
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1).float()[None]
