"""Inputs for which the outputs of the released code are recorded, computed from formulas."""

import torch
from torch import Tensor


def _axes(*sizes: int) -> tuple[Tensor, ...]:
    ranges = [torch.arange(size, dtype=torch.float64) for size in sizes]
    return torch.meshgrid(*ranges, indexing="ij")


def formula_input(name: str) -> Tensor:
    """Compute the sample `name`, which has no batch axis, in float64, and return it in float32."""
    if name == "depth":
        i, j = _axes(224, 224)
        x = (torch.sin(0.037 * i + 0.021 * j) * torch.cos(0.011 * j))[None]
    elif name == "thermal":
        i, j = _axes(224, 224)
        x = (0.5 + 0.5 * torch.sin(0.05 * i) * torch.sin(0.03 * j + 1))[None]
    elif name == "imu":
        c, t = _axes(6, 2000)
        x = torch.sin(0.01 * (c + 1) * t + c) + 0.1 * c
    elif name == "vision252":
        c, i, j = _axes(3, 252, 252)
        x = torch.sin(0.03 * i + 0.05 * j * (c + 1) + c)
    else:
        raise KeyError(name)
    return x.float()
