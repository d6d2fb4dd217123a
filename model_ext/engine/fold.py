"""The value form's maps of all layers at once: from a bound vector to every row that it adds.

What a layer adds is linear in the bound vector: its value map, then its gates and output map.
Where few value heads serve many heads, both stay two narrow maps (C -> KV*d -> C) a layer, else
they are one matrix (C, C), 8% of a 7B model: whichever is fewer numbers to read. Made on CPUs only:
there vLLM packs whole matrices and drops the rows that one would like to read alone; a GPU's memory
is better spent on requests. It does not know run-time LoRA, which changes the output map.

Shapes: n bound vectors, C hidden, H heads, KV value heads, d head size, q injected layers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vllm.distributed import get_tensor_model_parallel_world_size

from model_ext.engine.linear import PackedLinear, plain_weight
from model_ext.inject import gated_heads


class Fold(nn.Module):
    """Bound vectors (n, C) to rows (q, n, C), through `values` with `constants` as biases.

    One matrix (C, C) a layer, or (KV*d, C) and then one of `outputs` (KV*d, C).
    """

    def __init__(
        self, values: Sequence[Tensor], constants: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.layers = len(values)
        self.values = PackedLinear.of(torch.cat(list(values)), torch.cat(list(constants)))
        self.outputs = torch.stack(list(outputs)) if outputs else None

    def forward(self, bound: Tensor) -> Tensor:
        rows = self.values(bound).unflatten(1, (self.layers, -1)).transpose(0, 1)
        return rows if self.outputs is None else torch.bmm(rows, self.outputs)


@torch.inference_mode()
def fold(layers: Sequence[Any], injection: Any) -> Fold | None:
    """To call when weights are loaded and not packed yet.

    None where only the layers can tell: quantised ones, and several ranks, each of which would have
    to hold whole matrices.
    """
    if get_tensor_model_parallel_world_size() > 1 or not layers:
        return None
    values, constants, outputs = [], [], []
    for layer in layers:
        attention, row = layer.self_attn, layer.row
        qkv, output = plain_weight(attention.qkv_proj), plain_weight(attention.o_proj)
        if qkv is None or output is None or qkv.is_meta:
            return None
        value = qkv[attention.q_size + attention.kv_size :].float()  # (KV*d, C)
        if hasattr(injection, "v_lora_a"):
            value = value - injection.v_lora_b[row].float() @ injection.v_lora_a[row].float()
        one_hot = torch.eye(attention.kv_size, dtype=torch.float32)
        heads = gated_heads(one_hot, injection.gate[row], attention.head_dim)  # (KV*d, H*d)
        opened = heads @ output.float().mT  # (KV*d, C): gates, and sums over the sharing heads
        if 2 * len(value) < value.shape[1]:
            outputs.append(opened.to(output.dtype))
        else:
            value = opened.mT @ value
        values.append(value.to(output.dtype))
        constants.append((value @ injection.query[row].float()).to(output.dtype))
    return Fold(values, constants, outputs)
