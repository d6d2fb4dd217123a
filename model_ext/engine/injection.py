"""The weights that only the injection uses, inside vLLM, named as in the model's folder."""

import torch
from torch import nn

from model_ext.config import InjectionConfig


class Injection(nn.Module):
    """Gates, queries and the LoRA of the value projection.

    Every tensor-parallel rank has all these weights. In the value form (the released form), terms
    are added after attention; in the residual form, to the layer's input. Weights that the form or
    the checkpoint does not have are None.

    Shapes: q injected layers, H heads, C hidden, KV*d the width of all value heads, r rank.
    """

    # Gates before tanh, float32. Shape (q, H) in the value form, (q, 1) in the residual form.
    gate: nn.Parameter
    query: nn.Parameter | None  # Layer queries, shape (q, C). None in the residual form.
    v_lora_a: nn.Parameter | None  # LoRA's A of the value projection, shape (q, r, C).
    v_lora_b: nn.Parameter | None  # LoRA's B of the value projection, shape (q, KV*d, r).

    def __init__(self, config: InjectionConfig, heads: int, hidden: int, value_width: int) -> None:
        super().__init__()
        layers, rank, value_form = config.layers, config.v_correction_rank, config.form == "value"
        self.gate = _weight(layers, heads if value_form else 1, dtype=torch.float32)
        self.query = _weight(layers, hidden) if value_form else None
        self.v_lora_a = _weight(layers, rank, hidden) if rank else None
        self.v_lora_b = _weight(layers, value_width, rank) if rank else None


def _weight(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)
