"""Run-time LoRA adapters (PEFT, through vLLM) and the injected term.

A request's term passes through the output map with the request's own adapter, but through the value
map without it: the adapter belongs to the path of the tokens. This file does not know what the term
is.

Shapes: n new requests, m of them with an adapter, I inputs, O outputs, r rank.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch

from model_ext.engine.device import Device


@dataclass(frozen=True, slots=True)
class RuntimeLoRA:
    """Which of a batch's requests have an adapter, and where vLLM keeps its factors."""

    rows: torch.Tensor  # (m,), of the n requests
    places: torch.Tensor  # (m,), in vLLM's stacked factors

    @classmethod
    def of(cls, model: Any, adapters: list[int], device: Device) -> Self | None:
        """None if no request has an adapter. `adapters` are vLLM's ids, 0 for none."""
        rows = [row for row, adapter in enumerate(adapters) if adapter]
        if not rows:
            return None
        places = model.lora_manager.lora_index_to_id  # vLLM sets it on every model with LoRA
        return cls(
            device.indices(rows), device.indices([places.index(adapters[row]) for row in rows])
        )

    def add(self, output: torch.Tensor, linear: Any, x: torch.Tensor) -> None:
        """Add each request's B A x to its row of output (n, O), in place. x: (n, I)."""
        if not hasattr(linear, "lora_a_stacked"):  # vLLM did not wrap this layer
            return
        # An adapter without factors for this layer has zeros here.
        a = linear.lora_a_stacked[0][self.places, 0]  # (m, r, I)
        b = linear.lora_b_stacked[0][self.places, 0]  # (m, O, r), already scaled
        reduced = torch.einsum("mri,mi->mr", a, x[self.rows].to(a.dtype))
        added = torch.einsum("mor,mr->mo", b, reduced)
        output.index_add_(0, self.rows, added.to(output.dtype))
