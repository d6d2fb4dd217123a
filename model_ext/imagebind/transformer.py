"""The pre-norm transformer of all encoders; the point trunk uses its blocks.

This module does not depend on the modality of the tokens or on pooling.
Shapes: B samples, L tokens, E width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.portions import portions

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head attention, optionally with one additional learned key and value (`bias_k`,
    `bias_v`), which are appended after the projections and are the same for all samples.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        bias_kv: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if bias_kv and causal:
            raise ValueError("bias_kv and causal cannot both be set")
        self.heads = heads
        self.causal = causal
        self.qkv_proj = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out_proj = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply self-attention: (B, L, E) -> (B, L, E)."""
        q, k, v = self.qkv_proj(x).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(len(x), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(len(x), -1, -1)], dim=1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))  # torch's default, the exact GELU (with erf)
        return out


class Block(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: int,
        *,
        eps: float = NORM_EPS,
        qkv_bias: bool = True,
        bias_kv: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads, qkv_bias=qkv_bias, bias_kv=bias_kv, causal=causal)
        self.norm_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: (B, L, E) -> (B, L, E). Input and output have the dtype of the norms."""
        dtype = self.mlp.fc1.weight.dtype
        x = x + self.attention(self.norm_1(x).to(dtype))
        out: Tensor = x + self.mlp(self.norm_2(x).to(dtype))
        return out


class Transformer(nn.Module):
    """A sequence of blocks. The final norm is part of the encoder's head."""

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        mlp_ratio: int,
        *,
        pre_norm: bool = False,
        bias_kv: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(width, eps=NORM_EPS) if pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, bias_kv=bias_kv, causal=causal) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply all blocks to tokens: (B, L, E) -> (B, L, E)."""
        return torch.cat([self._run(part) for part in portions(x, x.shape[1])])

    def _run(self, x: Tensor) -> Tensor:
        x = self.pre_norm(x)
        for block in self.blocks:
            x = block(x)
        return x


def init_weights(module: nn.Module) -> None:
    """Initialise a module for training from scratch; pass this function to `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, Attention) and module.bias_k is not None:
        assert module.bias_v is not None
        nn.init.normal_(module.bias_k, std=0.02)
        nn.init.normal_(module.bias_v, std=0.02)
