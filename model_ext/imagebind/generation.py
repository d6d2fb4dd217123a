"""The embedding that conditions an unCLIP image generator (Stable unCLIP).

It is computed from the outputs of the encoders' heads before normalisation, because their length
matters. This module does not import the generator or the retrieval cache; callers pass the cache as
a function.

Shapes: B samples, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_ext.conditioning import POINT_DIVISOR, WEIGHT_SUM_EPSILON
from model_ext.imagebind.model import ImageBind

# A function that moves vectors (B, D) of length 1 towards entries of the retrieval cache.
Enhance = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Input:
    modality: str  # Modality of the encoder.
    tensor: Tensor  # Input of the encoder, (B, ...).
    weight: float = 1.0


@torch.inference_mode()
def image_embedding(
    model: ImageBind, inputs: Sequence[Input], enhance: Enhance | None = None
) -> Tensor:
    """Compute the weighted mean (B, D) of the heads' outputs.

    `enhance`: changes the direction of the mean, but not its length. In the released code, it is
    the retrieval cache by default.
    """
    total = sum(each.weight for each in inputs) + WEIGHT_SUM_EPSILON
    outputs = [_output(model, each) * (each.weight / total) for each in inputs]
    mixed = torch.stack(outputs).sum(0)
    if enhance is None:
        return mixed
    length: Tensor = mixed.norm(dim=-1, keepdim=True)
    return length * enhance(mixed / length)


def _output(model: ImageBind, source: Input) -> Tensor:
    divisor = POINT_DIVISOR if source.modality == "point" else 1
    return model.prenorm(source.modality, source.tensor) / divisor
