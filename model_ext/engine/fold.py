"""Multiply the projections of each injected layer in advance ("fold" them), so that new requests
need fewer operations.

In the value form, a layer applies the value projection, gates and the output projection to the
output of the bind network. The result is the layer's row, which the model adds to
tokens. Together, the three operations are one linear map. The module `Fold` computes the rows of
all layers at once. If there are few value heads (KV*d < C/2), a fold keeps two narrow matrices per
layer (C -> KV*d -> C), which have fewer weights to read than one matrix (C, C). For a 7B model, the
folded matrices need 8% more memory. This file is plain torch, without vLLM. A fold cannot contain
run-time LoRA, which changes the output projection.

Shapes: n outputs of the bind network, C hidden, H heads, KV value heads, d head size, q injected
layers.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from model_ext.inject import ValueLayer

# A function that makes a module from a matrix (out, in) and a bias (out,).
Linear = Callable[[Tensor, Tensor], nn.Module]


class Fold(nn.Module):
    """Compute rows (q, n, C) from outputs (n, C) of the bind network."""

    def __init__(self, layers: int, values: nn.Module, outputs: Tensor | None) -> None:
        super().__init__()
        self.layers = layers
        self.values = values  # Maps (n, C) to (n, q*C), or to (n, q*KV*d) if `outputs` is set.
        self.outputs = outputs  # Maps values to rows, (q, KV*d, C).

    def forward(self, bound: Tensor) -> Tensor:
        rows: Tensor = self.values(bound).unflatten(1, (self.layers, -1)).transpose(0, 1)
        return rows if self.outputs is None else torch.bmm(rows, self.outputs)


@torch.inference_mode()
def fold(layers: Sequence[ValueLayer], linear: Linear) -> Fold:
    """Fold the layers' projections. Needs memory for the result, and for one layer's projections in
    float32.
    """
    width, hidden = layers[0].v_proj.shape
    narrow = 2 * width < hidden
    rows = width if narrow else hidden
    like = layers[0].o_proj
    values = like.new_empty(len(layers), rows, hidden)
    constants = like.new_empty(len(layers), rows)  # each layer's matrix times its query
    outputs = like.new_empty(len(layers), width, hidden) if narrow else None
    for j, layer in enumerate(layers):
        value, output = layer.folded()
        if outputs is not None:
            outputs[j] = output.mT
        else:
            value = output @ value
        values[j] = value
        constants[j] = value @ layer.query.float()
    return Fold(len(layers), linear(values.flatten(0, 1), constants.flatten()), outputs)
