"""An input for every encoder, made of a formula: to see that an encoder works, and still the same.

What they look like means nothing.
"""

import torch
from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig


def probe(modality: str, config: ImageBindConfig) -> Tensor:
    """One sample with its batch axis, as `ImageBind` takes it."""
    section = getattr(config, modality)
    match modality:
        case "vision":
            return wave(1, section.channels, section.image_size, section.image_size)
        case "text":
            # A climbing row of ids whose largest, where the text is pooled, is in the middle.
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
    """Numbers in [-1, 1] without a period: multiples of the golden ratio, folded."""
    count = torch.Size(shape).numel()
    steps = torch.arange(1, count + 1, dtype=torch.float64) * 0.6180339887498949
    return (2 * (steps % 1) - 1).float().reshape(shape)


def cloud(points: int) -> Tensor:
    """Points spread evenly over a sphere (1, N, 3)."""
    count = torch.arange(points, dtype=torch.float64)
    height = 1 - (2 * count + 1) / points
    angle = count * 2.399963229728653
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1).float()[None]
