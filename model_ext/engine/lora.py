"""Run-time LoRA adapters (PEFT, through vLLM) and the injected term.

The injected term passes through the value projection and then the output projection. A request's
LoRA adapter changes the output projection of this term. It does not change the value projection,
because the adapter's value factors apply only to tokens.

Shapes: n new requests, m of them with an adapter, I inputs, O outputs, r rank.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch

from model_ext.engine.device import Device


@dataclass(frozen=True, slots=True)
class RuntimeLoRA:
    """The requests of a batch that have an adapter, and the indices of the adapters in vLLM."""

    rows: torch.Tensor  # Shape (m,), the indices of these requests in the batch.
    places: torch.Tensor  # Shape (m,), the indices of the adapters in vLLM's stacked factors.

    @classmethod
    def of(cls, model: Any, adapters: list[int], device: Device) -> Self | None:
        """Return None if no request has an adapter.

        `adapters`: vLLM's id per request, 0 for none.
        """
        rows = [row for row, adapter in enumerate(adapters) if adapter]
        if not rows:
            return None
        places = model.lora_manager.lora_index_to_id  # vLLM sets this attribute if LoRA is on
        return cls(
            device.indices(rows), device.indices([places.index(adapters[row]) for row in rows])
        )

    def add(self, output: torch.Tensor, linear: Any, x: torch.Tensor) -> None:
        """Add the LoRA product B A x of each request to its row of output, in place.

        x (n, I), output (n, O).
        """
        if not hasattr(linear, "lora_a_stacked"):  # vLLM has not wrapped this layer for LoRA
            return
        # If an adapter has no factors for this layer, vLLM stores zeros.
        a = linear.lora_a_stacked[0][self.places, 0]  # Shape (m, r, I).
        b = linear.lora_b_stacked[0][self.places, 0]  # Shape (m, O, r), already scaled.
        reduced = torch.einsum("mri,mi->mr", a, x[self.rows].to(a.dtype))
        added = torch.einsum("mor,mr->mo", b, reduced)
        output.index_add_(0, self.rows, added.to(output.dtype))
