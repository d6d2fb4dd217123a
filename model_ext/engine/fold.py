"""The value form's maps of all layers in one: from a bound vector to every row that it adds.

What a layer adds is linear in the bound vector, so its value map, gate and output map are one
matrix (C, C), and those of all layers one product instead of two a layer. It takes C * C numbers a
layer, 8% of a 7B model. Made on CPUs only: there vLLM packs whole matrices and drops the rows that
one would like to read alone; a GPU's memory is better spent on requests. It does not know run-time
LoRA, which changes the output map.

Shapes: C hidden, H heads, KV value heads, d head size, q injected layers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from vllm.distributed import get_tensor_model_parallel_world_size

from model_ext.engine.linear import PackedLinear, plain_weight
from model_ext.inject import gated_heads


@torch.inference_mode()
def fold(layers: Sequence[Any], injection: Any) -> PackedLinear | None:
    """A map from C to q * C, whose bias is what the layers' queries add.

    To call when weights are loaded and not packed yet. None where only the layers can tell:
    quantised ones, and several ranks, each of which would have to hold whole matrices.
    """
    if get_tensor_model_parallel_world_size() > 1:
        return None
    matrices, biases = [], []
    for layer in layers:
        attention, row = layer.self_attn, layer.row
        qkv, output = plain_weight(attention.qkv_proj), plain_weight(attention.o_proj)
        if qkv is None or output is None or qkv.is_meta:
            return None
        value = qkv[attention.q_size + attention.kv_size :].float()  # (KV*d, C)
        if hasattr(injection, "v_lora_a"):
            value = value - injection.v_lora_b[row].float() @ injection.v_lora_a[row].float()
        heads = gated_heads(value.T, injection.gate[row], attention.head_dim)  # (C, H*d)
        matrix = output.float() @ heads.T  # (C, C)
        matrices.append(matrix.to(output.dtype))
        biases.append((matrix @ injection.query[row].float()).to(output.dtype))
    return PackedLinear.of(torch.cat(matrices), torch.cat(biases)) if matrices else None
