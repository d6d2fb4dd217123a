"""LLaMA's layers in plain torch.

Linear layers have LoRA and biases, and attention adds the gated injected term. The attention is
grouped-query attention with rotate-half rotary embeddings. Parameter names are those of the model
directory. This module does not depend on files, data or losses.

Shapes: B samples, L tokens, C hidden, H heads, KV value heads, d head size, r rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.weights.llama_sizes import LlamaSizes


@dataclass(frozen=True, slots=True)
class Extras:
    """The LoRA and biases that finetune adds to linear layers. Rank 0: neither LoRA nor biases."""

    rank: int = 0

    @property
    def bias(self) -> bool:
        return self.rank > 0


class Linear(nn.Module):
    """A linear layer with LoRA: W x (+ b) + B (A x). It has no factor alpha / rank and no dropout.
    B and b are initially zero.
    """

    def __init__(self, into: int, out: int, extras: Extras, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, into), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out)) if extras.bias and bias else None
        self.lora_a = self.lora_b = None
        if extras.rank:
            self.lora_a = nn.Parameter(torch.empty(extras.rank, into).normal_(std=into**-0.5))
            self.lora_b = nn.Parameter(torch.zeros(out, extras.rank))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, None if self.bias is None else self.bias.to(x.dtype))
        if self.lora_a is not None and self.lora_b is not None:
            y = y + F.linear(F.linear(x, self.lora_a.to(x.dtype)), self.lora_b.to(x.dtype))
        return y


class RMSNorm(nn.Module):
    """RMS norm, computed in float32 for activations of any dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normal = F.rms_norm(x.float(), (x.shape[-1],), None, self.eps)
        return (normal * self.weight.float()).to(x.dtype)


class Rotary:
    """Rotary cos and sin of every position. This class is not an nn.Module, because a cast to
    bfloat16 would also cast cos and sin.
    """

    def __init__(self, head_dim: int, theta: float, positions: int) -> None:
        frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
        angles = torch.outer(torch.arange(positions).float(), frequencies).repeat(1, 2)
        self.cos, self.sin = angles.cos(), angles.sin()

    def __call__(self, x: Tensor, start: int) -> Tensor:
        """Apply rotary embeddings for the positions start..start+L-1 to (B, heads, L, d), in
        float32.
        """
        if self.cos.device != x.device:
            self.cos, self.sin = self.cos.to(x.device), self.sin.to(x.device)
        span = slice(start, start + x.shape[2])
        left, right = x.float().chunk(2, dim=-1)
        rotated = torch.cat([-right, left], dim=-1)
        return (x.float() * self.cos[span] + rotated * self.sin[span]).to(x.dtype)


class KeyValues:
    """The keys and values of earlier tokens in one layer, for generation."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.k = k if self.k is None else torch.cat([self.k, k], dim=2)
        self.v = v if self.v is None else torch.cat([self.v, v], dim=2)
        return self.k, self.v

    def repeat(self, samples: int) -> None:
        """Repeat the only sample of the batch `samples` times."""
        if self.k is not None and self.v is not None:
            self.k, self.v = (t.expand(samples, -1, -1, -1) for t in (self.k, self.v))


class Attention(nn.Module):
    def __init__(self, sizes: LlamaSizes, extras: Extras) -> None:
        super().__init__()
        self.heads, self.head_dim = sizes.num_attention_heads, sizes.head_dim
        self.kv_heads = sizes.num_key_value_heads
        hidden = sizes.hidden_size
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = Linear(hidden, wide, extras)
        self.k_proj = Linear(hidden, narrow, extras, bias=False)
        self.v_proj = Linear(hidden, narrow, extras, bias=False)
        self.o_proj = Linear(wide, hidden, extras)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        injected: tuple[Tensor, Tensor] | None,
        start: int = 0,
        past: KeyValues | None = None,
    ) -> Tensor:
        """Attend: x (B, L, C) -> (B, L, C). `injected`: source (B, C) and gate (1, H, 1, 1)."""
        q = rotary(self._split(self.q_proj(x), self.heads), start)
        k = rotary(self._split(self.k_proj(x), self.kv_heads), start)
        v = self._split(self.v_proj(x), self.kv_heads)
        if past is not None:
            k, v = past.extend(k, v)
        groups = self.heads // self.kv_heads
        k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        if injected is not None:
            heads = heads + self._gated(*injected).to(heads.dtype)
        out: Tensor = self.o_proj(heads.transpose(1, 2).flatten(2))
        return out

    def _gated(self, source: Tensor, gate: Tensor) -> Tensor:
        """Return the injected term (B, H, 1, d), which is added to every token. Uses the value
        matrix without LoRA.
        """
        weight = self.v_proj.weight
        value = F.linear(source.to(weight.dtype), weight)
        value = value.view(len(source), self.kv_heads, 1, self.head_dim)
        value = value.repeat_interleave(self.heads // self.kv_heads, dim=1)
        return gate.float().tanh() * value

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, sizes: LlamaSizes, extras: Extras) -> None:
        super().__init__()
        hidden, wide = sizes.hidden_size, sizes.intermediate_size
        self.gate_proj = Linear(hidden, wide, extras)
        self.up_proj = Linear(hidden, wide, extras)
        self.down_proj = Linear(wide, hidden, extras)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    def __init__(self, sizes: LlamaSizes, extras: Extras) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.self_attn = Attention(sizes, extras)
        self.post_attention_layernorm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.mlp = Mlp(sizes, extras)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        injected: tuple[Tensor, Tensor] | None,
        start: int = 0,
        past: KeyValues | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, injected, start, past)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out
