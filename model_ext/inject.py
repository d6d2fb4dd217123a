"""What a request adds to the attention output (or input) of each layer, once for all its tokens.

The injected term depends on the embedding and on the layer, not on the token or its position,
so it is computed when the request arrives and afterwards only added. Plain torch: a layer's maps
come in as callables, so that sharded and quantised layers can pass their own.

Shapes: B requests, C hidden, H heads, KV value heads, d head size, q injected layers, r rank.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

Map = Callable[[torch.Tensor], torch.Tensor]


def value_delta(
    source: torch.Tensor,
    gate: torch.Tensor,
    project_value: Map,
    project_output: Map,
    num_heads: int,
    head_dim: int,
) -> torch.Tensor:
    """The term (B, C) that one layer's attention output gains at every position.

    source (B, C) is the bound vector plus the layer's query; gate (H,) is raw, its tanh is taken
    here. `project_value` maps C to KV*d **without** LoRA and bias; `project_output` maps H*d to C
    **with** LoRA and **without** bias, which the layer's own path already adds. Under tensor
    parallelism num_heads, gate and the value width are those of the rank.
    """
    value = project_value(source).view(len(source), -1, head_dim)  # (B, KV, d)
    groups = num_heads // value.shape[1]
    value = value.repeat_interleave(groups, dim=1)  # head h reads value head h // (H / KV)
    opened = torch.tanh(gate.float()).to(value.dtype)
    return project_output((opened[:, None] * value).flatten(1))


def base_value(
    source: torch.Tensor, project_merged: Map, lora_a: torch.Tensor, lora_b: torch.Tensor
) -> torch.Tensor:
    """The value map without its LoRA, from the merged map and the two factors (r, C), (KV*d, r).

    The released model sends the injected source through the base matrix only.
    """
    return project_merged(source) - F.linear(F.linear(source, lora_a), lora_b)


@dataclass(frozen=True, slots=True)
class ValueLayer:
    """The weights of one injected layer, as the model's folder stores them."""

    query: torch.Tensor  # (C,)
    gate: torch.Tensor  # (H,), before tanh
    v_proj: torch.Tensor  # (KV*d, C), LoRA merged
    o_proj: torch.Tensor  # (C, H*d), LoRA merged
    v_lora_a: torch.Tensor | None = None  # (r, C)
    v_lora_b: torch.Tensor | None = None  # (KV*d, r)

    def project_value(self, source: torch.Tensor) -> torch.Tensor:
        if self.v_lora_a is None or self.v_lora_b is None:
            return F.linear(source, self.v_proj)
        return base_value(source, self.project_merged, self.v_lora_a, self.v_lora_b)

    def project_merged(self, source: torch.Tensor) -> torch.Tensor:
        return F.linear(source, self.v_proj)

    def project_output(self, heads: torch.Tensor) -> torch.Tensor:
        return F.linear(heads, self.o_proj)


def value_deltas(bound: torch.Tensor, layers: Sequence[ValueLayer]) -> torch.Tensor:
    """All layers' terms (B, q, C) of the released form, from bound vectors (B, C)."""
    return torch.stack(
        [
            value_delta(
                bound + layer.query,
                layer.gate,
                layer.project_value,
                layer.project_output,
                num_heads=layer.gate.shape[0],
                head_dim=layer.o_proj.shape[1] // layer.gate.shape[0],
            )
            for layer in layers
        ],
        dim=1,
    )


def residual_deltas(bound: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """All layers' terms (B, q, C) of the paper's form (eq. 2): one linear factor a layer.

    bound (B, C), gate (q, 1). They are added to the layer's **input**, before its first norm.
    """
    return bound[:, None, :] * gate.to(bound.dtype)
