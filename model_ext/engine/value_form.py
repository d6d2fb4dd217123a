"""Compute the rows that layers add in the value form, with the weights of vLLM's own layers.

The layers can be plain, packed, quantised or sharded. If all layers are plain, this module can also
return their weights, so that `fold.py` can multiply the projections of each layer in advance.

Shapes: n new requests, C hidden, H heads, KV value heads, d head size, q injected layers of this
pipeline rank.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from vllm.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_reduce,
)

from model_ext.engine.injection import Injection
from model_ext.engine.linear import plain_weight, without_bias
from model_ext.engine.lora import RuntimeLoRA
from model_ext.inject import ValueLayer, base_value, gated_heads

# vLLM's decoder layers, each with `self_attn` and with `row`, its index among the injected layers.
Layers = Sequence[Any]


def layer_rows(
    layers: Layers, injection: Injection, bound: torch.Tensor, lora: RuntimeLoRA | None
) -> torch.Tensor:
    """Compute rows (q, n, C) from outputs (n, C) of the bind network, one layer after the other."""
    heads = _gated_heads(layers, injection, bound)
    rows = []
    for layer, x in zip(layers, heads, strict=True):
        output = layer.self_attn.o_proj
        row = without_bias(output, x)
        if lora is not None:
            lora.add(row, output, x)
        rows.append(row)
    stacked = torch.stack(rows)
    if get_tensor_model_parallel_world_size() > 1:
        return tensor_model_parallel_all_reduce(stacked)
    return stacked


def plain_layers(
    layers: Layers, injection: Injection, device: torch.device
) -> list[ValueLayer] | None:
    """Return the layers' weights, or None if they cannot be read on `device`.

    Quantised, packed and offloaded layers cannot be read. With tensor parallelism they cannot be
    read either, because each rank has only a part.
    """
    if get_tensor_model_parallel_world_size() > 1 or not layers or injection.query is None:
        return None
    plain = []
    for layer in layers:
        attention, row = layer.self_attn, layer.row
        qkv, output = plain_weight(attention.qkv_proj), plain_weight(attention.o_proj)
        if qkv is None or output is None or {qkv.device.type, output.device.type} != {device.type}:
            return None
        plain.append(
            ValueLayer(
                query=injection.query[row],
                gate=injection.gate[row],
                v_proj=qkv[attention.q_size + attention.kv_size :],
                o_proj=output,
                v_lora_a=None if injection.v_lora_a is None else injection.v_lora_a[row],
                v_lora_b=None if injection.v_lora_b is None else injection.v_lora_b[row],
            )
        )
    return plain


def value(layer: Any, source: torch.Tensor) -> torch.Tensor:
    """Apply the layer's value projection to source (n, C), without bias. Returns this rank's heads
    (n, KV*d).
    """
    attention = layer.self_attn
    plain = plain_weight(attention.qkv_proj)
    # vLLM's joined output contains queries, keys and then values
    first = attention.q_size + attention.kv_size
    if plain is not None:
        return F.linear(source, plain[first:])
    return without_bias(attention.qkv_proj, source)[:, first:]


def _gated_heads(layers: Layers, injection: Injection, bound: torch.Tensor) -> torch.Tensor:
    """Compute the gated term (q, n, H*d) of this rank's heads from bind outputs (n, C)."""
    assert injection.query is not None  # for mypy; all models in the value form have queries
    attention = layers[0].self_attn
    here = slice(layers[0].row, layers[-1].row + 1)
    source = bound + injection.query[here, None]  # shape (q, n, C)
    values = torch.stack([value(layer, x) for layer, x in zip(layers, source, strict=True)])
    if injection.v_lora_a is not None and injection.v_lora_b is not None:
        lora_b = injection.v_lora_b[here, _value_rows(attention)]
        values = base_value(source, values, injection.v_lora_a[here], lora_b)
    first = get_tensor_model_parallel_rank() * attention.num_heads
    gate = injection.gate[here, None, first : first + attention.num_heads]
    return gated_heads(values, gate, attention.head_dim)


def _value_rows(attention: Any) -> slice:
    """Return which rows of the complete value matrix this rank has. Several ranks can have the same
    value heads.
    """
    ranks = get_tensor_model_parallel_world_size()
    copies = max(1, ranks // attention.total_num_kv_heads)
    first = get_tensor_model_parallel_rank() // copies * attention.kv_size
    return slice(first, first + attention.kv_size)
