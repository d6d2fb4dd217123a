"""Starting values that let small encoders learn from few samples.

A fresh ImageBind starts like a large model: weights so small that in a narrow trunk every sample
comes out the same, and positions that are faint beside the patches. Knows shapes, no data.
"""

import math

import torch
from torch import Tensor, nn

from model_ext.imagebind.encoders import Encoder
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.point import PointTrunk

SCALE = 0.5  # of the waves, beside patches of about unit size


@torch.no_grad()
def start_small(model: ImageBind) -> None:
    """All encoders: maps that keep the size of what they are given, visible positions."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1.0)
    for modality in model.modalities:
        _show_positions(model, modality)
    if model.config.audio is not None:
        # Spectrograms lie mostly at two constant levels; what they share would drown the rest.
        weight = model.encoder("audio").get_parameter("stem.proj.weight")
        weight.sub_(weight.mean(dim=(1, 2, 3), keepdim=True))


def _show_positions(model: ImageBind, modality: str) -> None:
    """Positions as waves over the grid of patches, still free to change."""
    encoder = model.encoder(modality)
    if isinstance(encoder.trunk, PointTrunk):
        for layer in (encoder.trunk.position_1, encoder.trunk.position_2):
            nn.init.xavier_uniform_(layer.weight)
        return
    grid = _grid(model, modality)
    if isinstance(encoder, Encoder) and grid is not None:
        table = encoder.stem.positions
        assert isinstance(table, Tensor)
        table[0, 1:] = SCALE * waves(*grid, table.shape[2])


def waves(rows: int, columns: int, width: int) -> Tensor:
    """(rows * columns, width): half the channels tell the row, half the column."""
    quarter = width // 4
    frequencies = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    table = torch.zeros(rows, columns, width)
    for place, (count, view) in enumerate(((rows, (-1, 1, 1)), (columns, (1, -1, 1)))):
        angles = torch.outer(torch.arange(count).float(), frequencies)
        both = torch.cat([angles.sin(), angles.cos()], dim=1).view(*view[:2], 2 * quarter)
        start = 2 * quarter * place
        table[:, :, start : start + 2 * quarter] = both
    return table.flatten(0, 1)


def _grid(model: ImageBind, modality: str) -> tuple[int, int] | None:
    """Rows and columns of patches; None where tokens are not a picture."""
    section = getattr(model.config, modality)
    if modality in ("vision", "depth", "thermal"):
        return section.grid, section.grid
    return section.grid if modality == "audio" else None
