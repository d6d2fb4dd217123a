"""What a request adds to the attention output (or input) of each layer, once for all its tokens.

The injected term depends on the embedding and on the layer, not on the token or its position,
so it is computed when the request arrives and afterwards only added. Plain torch: what sharded and
quantised layers do between these steps is the engine's business.

Shapes: B requests, C hidden, H heads, KV value heads, d head size, q injected layers, r rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F


def gated_heads(value: torch.Tensor, gate: torch.Tensor, head_dim: int) -> torch.Tensor:
    """What a layer's heads gain: values (..., KV*d) to (..., H*d).

    gate (..., H) is raw, its tanh is taken here. Leading axes broadcast, so that all layers can be
    opened at once. Under tensor parallelism both are the rank's own.
    """
    value = value.reshape(*value.shape[:-1], -1, head_dim)  # (..., KV, d)
    groups = gate.shape[-1] // value.shape[-2]
    value = value.repeat_interleave(groups, dim=-2)  # head h reads value head h // (H / KV)
    opened = torch.tanh(gate.float()).to(value.dtype)
    return (opened[..., None] * value).flatten(-2)


def base_value(
    source: torch.Tensor, merged: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor
) -> torch.Tensor:
    """Values of source (..., B, C) without LoRA, from those `merged` (..., B, KV*d) with it.

    The released model sends the injected source through the base matrix only. The factors
    (..., r, C) and (..., KV*d, r) may be those of one layer or, with source, of many.
    """
    return merged - source @ lora_a.mT @ lora_b.mT


@dataclass(frozen=True, slots=True)
class ValueLayer:
    """The weights of one injected layer, as the model's folder stores them."""

    query: torch.Tensor  # (C,)
    gate: torch.Tensor  # (H,), before tanh
    v_proj: torch.Tensor  # (KV*d, C), LoRA merged
    o_proj: torch.Tensor  # (C, H*d), LoRA merged
    v_lora_a: torch.Tensor | None = None  # (r, C)
    v_lora_b: torch.Tensor | None = None  # (KV*d, r)

    def delta(self, bound: torch.Tensor) -> torch.Tensor:
        """The term (B, C) that this layer's attention output gains at every position.

        The value map is taken without LoRA and bias; the output map **with** LoRA and **without**
        bias, which the layer's own path already adds.
        """
        source = bound + self.query
        value = F.linear(source, self.v_proj)
        if self.v_lora_a is not None and self.v_lora_b is not None:
            value = base_value(source, value, self.v_lora_a, self.v_lora_b)
        head_dim = self.o_proj.shape[1] // len(self.gate)
        return F.linear(gated_heads(value, self.gate, head_dim), self.o_proj)


def value_deltas(bound: torch.Tensor, layers: Sequence[ValueLayer]) -> torch.Tensor:
    """All layers' terms (B, q, C) of the released form, from bound vectors (B, C)."""
    return torch.stack([layer.delta(bound) for layer in layers], dim=1)


def residual_deltas(bound: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """All layers' terms (B, q, C) of the paper's form (eq. 2): one linear factor a layer.

    bound (B, C), gate (q, 1). They are added to the layer's **input**, before its first norm.
    """
    return bound[:, None, :] * gate.to(bound.dtype)
