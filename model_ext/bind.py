"""The bind network, which maps an ImageBind embedding to a vector of the language model's width.

Plain torch. This file depends neither on the encoders nor on the injection.

Shapes: B requests, D embedding dimensions, C hidden dimensions of the language model.
"""

import torch
from torch import nn
from torch.nn import functional as F

from model_ext.config import BindConfig


class BindNetwork(nn.Module):
    """A projection, then gated feed-forward blocks with residual connections (paper eq. 1).

    `linear` is the class of the linear layers, with the arguments of nn.Linear. The engine passes a
    class whose weights vLLM can pack.
    """

    def __init__(self, config: BindConfig, linear: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.proj = linear(config.in_features, config.hidden_size)
        self.blocks = nn.ModuleList(BindBlock(config, linear) for _ in range(config.blocks))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map embeddings (B, D) to vectors (B, C)."""
        x: torch.Tensor = self.proj(embedding)
        for block in self.blocks:
            x = block(x)
        return x  # the network has no final norm


class BindBlock(nn.Module):
    """Compute x + down(silu(gate(norm(x))) * up(norm(x)))."""

    def __init__(self, config: BindConfig, linear: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        hidden, wide, bias = config.hidden_size, config.intermediate_size, config.bias
        norm = nn.RMSNorm if config.norm == "rmsnorm" else nn.LayerNorm
        self.norm = norm(hidden, eps=config.norm_eps)
        self.gate_proj = linear(hidden, wide, bias=bias)
        self.up_proj = linear(hidden, wide, bias=bias)
        self.down_proj = linear(wide, hidden, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        gained: torch.Tensor = self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))
        return x + gained
