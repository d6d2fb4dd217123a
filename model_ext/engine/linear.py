"""Linear maps inside vLLM: its layers' as they are, and ours packed for the same kernels.

A layer's matrix may be quantised, packed, or gone: only its quantisation method knows the way
through it. Nothing here knows what is mapped.
"""

from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod


class PackedLinear(nn.Linear):
    """A map of ours that vLLM packs after loading, as it does those of the language model.

    Not one of vLLM's layers: those it would wrap for run-time LoRA.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)
        self.quant_method = UnquantizedLinearMethod()  # by which vLLM finds what it has to pack

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
    """x through a layer, whatever holds its matrix."""
    linear = _base_layer(linear)
    return linear.quant_method.apply(linear, x.contiguous(), None)


def plain_weight(linear: LinearBase) -> torch.Tensor | None:
    """A layer's matrix (out, in), if it is there: neither quantised nor packed."""
    linear = _base_layer(linear)
    if not isinstance(linear.quant_method, UnquantizedLinearMethod) or not linear.weight.numel():
        return None
    weight: torch.Tensor = linear.weight.detach()
    return weight


def _base_layer(linear: Any) -> Any:
    return getattr(linear, "base_layer", linear)  # of vLLM's wrapper of run-time LoRA
