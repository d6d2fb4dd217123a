"""Compute the term that a request adds to the attention output or the input of each layer.

The term is added to all tokens of the request.

It depends on the embedding and on the layer, but not on the token or its position. Therefore, it is
computed once, when the request arrives. Plain torch, without the engine's sharding and
quantisation.

Shapes: B requests, C hidden, H heads, KV value heads, d head size, q injected layers, r rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F


def gated_heads(value: torch.Tensor, gate: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Multiply a layer's values (..., KV*d) by the heads' gates. Returns the term (..., H*d).

    This function applies tanh to the gate (..., H). Leading axes broadcast, so that one call can
    compute all layers. With tensor parallelism, both tensors contain only the heads of the rank.
    """
    value = value.reshape(*value.shape[:-1], -1, head_dim)  # shape (..., KV, d)
    groups = gate.shape[-1] // value.shape[-2]
    value = value.repeat_interleave(groups, dim=-2)  # head h uses value head h // (H / KV)
    opened = torch.tanh(gate.float()).to(value.dtype)
    return (opened[..., None] * value).flatten(-2)


def gated_output(output: torch.Tensor, gate: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Multiply an output projection's weight (C, H*d) by the gates (H,). Returns a weight matrix
    (C, KV*d), which maps the value heads directly to the term.

    The columns of heads that share a value head are summed. One product with this matrix equals
    `gated_heads` followed by the output projection.
    """
    heads = output.reshape(len(output), kv_heads, len(gate) // kv_heads, -1)  # (C, KV, H / KV, d)
    opened = torch.tanh(gate.float()).to(output.dtype).view(kv_heads, -1, 1)
    return torch.sum(heads * opened, dim=2).flatten(1)


def base_value(
    source: torch.Tensor, merged: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor
) -> torch.Tensor:
    """Subtract the contribution of LoRA from `merged` (..., B, KV*d), the values of `source` (...,
    B, C).

    The released model applies the value projection without LoRA to the injected source. The factors
    (..., r, C) and (..., KV*d, r) are those of one layer or, like `source`, of several layers.
    """
    return merged - source @ lora_a.mT @ lora_b.mT


@dataclass(frozen=True, slots=True)
class ValueLayer:
    """The weights of one injected layer, as the model's folder stores them."""

    query: torch.Tensor  # The layer's query, shape (C,).
    gate: torch.Tensor  # The gates before tanh, shape (H,).
    v_proj: torch.Tensor  # The value projection (KV*d, C), with LoRA merged.
    o_proj: torch.Tensor  # The output projection (C, H*d), with LoRA merged.
    v_lora_a: torch.Tensor | None = None  # LoRA's A of the value projection, (r, C).
    v_lora_b: torch.Tensor | None = None  # LoRA's B of the value projection, (KV*d, r).

    @property
    def head_dim(self) -> int:
        return self.o_proj.shape[1] // len(self.gate)

    def delta(self, bound: torch.Tensor) -> torch.Tensor:
        """Compute the term (B, C) to add to this layer's attention output at every position.

        The value projection is applied without LoRA and bias. The output projection is applied
        **with** LoRA and **without** bias, because the layer itself adds the bias.
        """
        source = bound + self.query
        value = F.linear(source, self.v_proj)
        if self.v_lora_a is not None and self.v_lora_b is not None:
            value = base_value(source, value, self.v_lora_a, self.v_lora_b)
        return F.linear(gated_heads(value, self.gate, self.head_dim), self.o_proj)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return, in float32, the value projection (KV*d, C) without LoRA, and the output
        projection (C, KV*d) multiplied by the gates.
        """
        value = self.v_proj.float()
        if self.v_lora_a is not None and self.v_lora_b is not None:
            value = value - self.v_lora_b.float() @ self.v_lora_a.float()
        kv_heads = len(value) // self.head_dim
        return value, gated_output(self.o_proj.float(), self.gate, kv_heads)


def value_deltas(bound: torch.Tensor, layers: Sequence[ValueLayer]) -> torch.Tensor:
    """Compute all layers' terms (B, q, C) in the released form from bind outputs (B, C)."""
    return torch.stack([layer.delta(bound) for layer in layers], dim=1)


def residual_deltas(bound: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Compute the terms (B, q, C) of all layers in the paper's form (eq. 2): one factor per layer.

    bound (B, C), gate (q, 1). A term is added to the layer's **input**, before its first norm.
    """
    return bound[:, None, :] * gate.to(bound.dtype)
