"""The embedding that an image generator of unCLIP's kind (Stable unCLIP) is conditioned on.

Made of the heads' own outputs, whose length matters, not of unit vectors. It does not know the
generator, nor the cache, which comes in as a callable.

Shapes: B samples, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_ext.conditioning import WEIGHT_SUM_EPSILON
from model_ext.imagebind.model import ImageBind

POINT_DIVISOR = 5  # Point-Bind's outputs are that much longer than the images' they stand in for

Enhance = Callable[[Tensor], Tensor]  # unit vectors (B, D) towards a cache's, of unit length too


@dataclass(frozen=True, slots=True)
class Input:
    modality: str  # of the encoder
    tensor: Tensor  # (B, ...), as the encoder takes it
    weight: float = 1.0


@torch.inference_mode()
def image_embedding(
    model: ImageBind, inputs: Sequence[Input], enhance: Enhance | None = None
) -> Tensor:
    """The weighted mean of the inputs' outputs (B, D); with a cache only its direction changes.

    The release has the cache on by default here.
    """
    total = sum(each.weight for each in inputs) + WEIGHT_SUM_EPSILON
    outputs = [_output(model, each) * (each.weight / total) for each in inputs]
    mixed = torch.stack(outputs).sum(0)
    if enhance is None:
        return mixed
    length: Tensor = mixed.norm(dim=-1, keepdim=True)
    return length * enhance(mixed / length)


def _output(model: ImageBind, given: Input) -> Tensor:
    divisor = POINT_DIVISOR if given.modality == "point" else 1
    return model.prenorm(given.modality, given.tensor) / divisor
