"""The weights that only the injection uses, inside vLLM, named as in the model's folder."""

import torch
from torch import nn

from model_ext.config import InjectionConfig


class Injection(nn.Module):
    """Gates, queries and the value map's LoRA.

    Every tensor-parallel rank has all of them. Members that the injection's form or the checkpoint
    lacks are None.

    Shapes: q injected layers, H heads, C hidden, KV*d the width of all value heads, r rank.
    """

    # float32, shape (q, H) before tanh in the value form, (q, 1) in the residual form;
    gate: nn.Parameter
    query: nn.Parameter | None  # shape (q, C), only in the value form;
    v_lora_a: nn.Parameter | None  # shape (q, r, C);
    v_lora_b: nn.Parameter | None  # shape (q, KV*d, r)

    def __init__(self, config: InjectionConfig, heads: int, hidden: int, value_width: int) -> None:
        super().__init__()
        layers, rank, value_form = config.layers, config.v_correction_rank, config.form == "value"
        self.gate = _weight(layers, heads if value_form else 1, dtype=torch.float32)
        self.query = _weight(layers, hidden) if value_form else None
        self.v_lora_a = _weight(layers, rank, hidden) if rank else None
        self.v_lora_b = _weight(layers, value_width, rank) if rank else None


def _weight(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)
