"""Run-time LoRA adapters (PEFT, through vLLM) and the injected term.

A request's term goes through the output map with the request's own adapter, and never through the
value map's: the adapter belongs to the path of the tokens. It does not know what the term is.

Shapes: n new requests, m of them with an adapter, I inputs, O outputs, r rank.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch


@dataclass(frozen=True, slots=True)
class RuntimeLoRA:
    """Which of a step's new requests have an adapter, and where vLLM keeps its factors."""

    rows: list[int]  # (m,), of the n requests
    places: list[int]  # (m,), in vLLM's stacked factors

    @classmethod
    def of(cls, model: Any, adapters: list[int]) -> Self | None:
        """None if nobody has one. `adapters` are vLLM's ids, 0 for none."""
        rows = [row for row, adapter in enumerate(adapters) if adapter]
        if not rows:
            return None
        places = model.lora_manager.lora_index_to_id  # vLLM sets it on every model with LoRA
        return cls(rows, [places.index(adapters[row]) for row in rows])

    def add(self, output: torch.Tensor, linear: Any, x: torch.Tensor) -> None:
        """Add each request's B A x to its row of output (n, O), in place. x: (n, I)."""
        if not hasattr(linear, "lora_a_stacked"):  # the operator left this layer out
            return
        a = linear.lora_a_stacked[0][self.places, 0]  # (m, r, I); no factors of it: zeros
        b = linear.lora_b_stacked[0][self.places, 0]  # (m, O, r), already scaled
        reduced = torch.einsum("mri,mi->mr", a, x[self.rows].to(a.dtype))
        output[self.rows] += torch.einsum("mor,mr->mo", b, reduced).to(output.dtype)
