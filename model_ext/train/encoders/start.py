"""Initialise small encoders so that they learn from few samples.

ImageBind's initial weights are meant for a large model. In a narrow trunk, they are so small that
all samples get nearly the same embedding, and that position embeddings are much smaller than patch
embeddings.
"""

import math

import torch
from torch import Tensor, nn

from model_ext.imagebind.encoders import Encoder
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.point import PointTrunk

SCALE = 0.5  # amplitude of the waves of positions; patch embeddings have a size of about 1


@torch.no_grad()
def start_small(model: ImageBind) -> None:
    """Initialise all encoders: linear layers preserve the norm of their input, and position
    embeddings are larger.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1.0)
    for modality in model.modalities:
        _set_positions(model, modality)
    if model.config.audio is not None:
        # Make the weights ignore two constants, to which most values of a spectrogram are equal.
        weight = model.encoder("audio").get_parameter("stem.proj.weight")
        weight.sub_(weight.mean(dim=(1, 2, 3), keepdim=True))


def _set_positions(model: ImageBind, modality: str) -> None:
    """Initialise the position embeddings as waves over the grid of patches, which training
    changes.
    """
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
    """Return positions (rows * columns, width). Half of the channels encode the row, the other half
    the column.
    """
    quarter = width // 4
    frequencies = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    table = torch.zeros(rows, columns, width)
    for half, (count, view) in enumerate(((rows, (-1, 1, 1)), (columns, (1, -1, 1)))):
        angles = torch.outer(torch.arange(count).float(), frequencies)
        both = torch.cat([angles.sin(), angles.cos()], dim=1).view(*view[:2], 2 * quarter)
        start = 2 * quarter * half
        table[:, :, start : start + 2 * quarter] = both
    return table.flatten(0, 1)


def _grid(model: ImageBind, modality: str) -> tuple[int, int] | None:
    """Return the numbers of rows and columns of patches, or None if the modality's tokens form no
    grid.
    """
    section = getattr(model.config, modality)
    if modality in ("vision", "depth", "thermal"):
        return section.grid, section.grid
    return section.grid if modality == "audio" else None
