"""The value form's maps of all layers in one: from a bound vector to every row that it adds.

A layer's term is linear in the bound vector: its value map, then its gates and output map. If few
value heads serve many heads (KV*d < C/2), each layer keeps these two narrow maps (C -> KV*d -> C),
else they become one matrix (C, C): whichever has fewer numbers to read. For a 7B model that is 8%
more memory. Plain torch: this file knows neither vLLM nor run-time LoRA, which changes the output
map.

Shapes: n bound vectors, C hidden, H heads, KV value heads, d head size, q injected layers.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from model_ext.inject import ValueLayer

# A matrix (out, in) and a bias (out,) -> the module that applies them.
Linear = Callable[[Tensor, Tensor], nn.Module]


class Fold(nn.Module):
    """Bound vectors (n, C) to rows (q, n, C)."""

    def __init__(self, layers: int, values: nn.Module, outputs: Tensor | None) -> None:
        super().__init__()
        self.layers = layers
        self.values = values  # (n, C) -> (n, q*C), or (n, q*KV*d) where `outputs` follows
        self.outputs = outputs  # (q, KV*d, C)

    def forward(self, bound: Tensor) -> Tensor:
        rows: Tensor = self.values(bound).unflatten(1, (self.layers, -1)).transpose(0, 1)
        return rows if self.outputs is None else torch.bmm(rows, self.outputs)


@torch.inference_mode()
def fold(layers: Sequence[ValueLayer], linear: Linear) -> Fold:
    """Fold the layers' maps. Needs memory for the result and for one layer in float32."""
    width, hidden = layers[0].v_proj.shape
    narrow = 2 * width < hidden
    rows = width if narrow else hidden
    like = layers[0].o_proj
    values = like.new_empty(len(layers), rows, hidden)
    constants = like.new_empty(len(layers), rows)  # what the layers' queries contribute
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
