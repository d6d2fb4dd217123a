"""Linear layers inside vLLM: apply vLLM's linear layers, and pack bindserve's own for the same
kernels. vLLM may quantise, pack or remove a layer's matrix.

Then, only the `quant_method` of vLLM's layer can compute the product.
"""

from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod


class PackedLinear(nn.Linear):
    """A linear layer that vLLM packs after loading, like the linear layers of the language model.

    It is not one of vLLM's classes, which vLLM would wrap for run-time LoRA.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)
        self.quant_method = UnquantizedLinearMethod()  # vLLM packs all modules with this attribute

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor) -> "PackedLinear":
        with torch.device("meta"):
            linear = cls(weight.shape[1], weight.shape[0])
        linear.weight = nn.Parameter(weight, requires_grad=False)
        linear.bias = nn.Parameter(bias, requires_grad=False)
        return linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quant_method.apply(self, x, self.bias)


def without_bias(linear: LinearBase, x: torch.Tensor) -> torch.Tensor:
    """Apply a layer without its bias, even if its matrix is quantised or packed."""
    linear = _base_layer(linear)
    return linear.quant_method.apply(linear, x.contiguous(), None)


def plain_weight(linear: LinearBase) -> torch.Tensor | None:
    """Return a layer's matrix (out, in), or None if it is quantised or packed."""
    linear = _base_layer(linear)
    if not isinstance(linear.quant_method, UnquantizedLinearMethod) or not linear.weight.numel():
        return None
    weight: torch.Tensor = linear.weight.detach()
    return weight


def _base_layer(linear: Any) -> Any:
    return getattr(linear, "base_layer", linear)  # inside vLLM's wrapper for run-time LoRA
