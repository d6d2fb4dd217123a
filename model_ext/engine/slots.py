"""The slot table: which row of deltas each token of the batch adds, and the rows themselves.

Both runner adapters write it, the model's forward reads it. Its buffers are allocated once and
never move, so that captured CUDA graphs stay valid. It knows neither vLLM nor what a delta means.

Shapes: q injected layers, R slots (requests that may run at once), C hidden dimensions, N tokens
of a step.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model_ext.conditioning import Vector

# Embeddings (n, D) and the n requests' run-time LoRA adapters (0: none) -> rows (q, n, C).
Deltas = Callable[[torch.Tensor, list[int]], torch.Tensor]
Ints = NDArray[np.integer]


class SlotTable:
    def __init__(
        self,
        layers: int,
        rows: int,
        hidden: int,
        tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.deltas = torch.zeros(layers, rows, hidden, dtype=dtype, device=device)  # (q, R, C)
        self.layers = list(self.deltas.unbind())  # the same memory, a tensor (R, C) a layer
        self.slot_of_token = torch.zeros(tokens, dtype=torch.int64, device=device)  # (N,)
        self._staged: dict[int, tuple[Vector | None, int]] = {}
        self._batch: tuple[bytes, bytes] = (b"", b"")

    def stage(self, slot: int, embedding: Vector | None, adapter: int = 0) -> None:
        """Have `flush` fill the slot's row. None (an embedding unfit for use) injects nothing."""
        self._staged[slot] = embedding, adapter

    def flush(self, deltas: Deltas) -> None:
        """Compute the rows of all requests that are new in this step, in one batch.

        To call once the step's LoRA adapters are in their places.
        """
        if not self._staged:
            return
        blank = [slot for slot, (e, _) in self._staged.items() if e is None]
        found = [(slot, e, adapter) for slot, (e, adapter) in self._staged.items() if e is not None]
        self._staged.clear()
        if blank:
            self.deltas[:, blank] = 0
        if found:
            slots, vectors, adapters = zip(*found, strict=True)
            embeddings = torch.from_numpy(np.stack(vectors)).to(self.deltas.device)
            self.deltas[:, list(slots)] = deltas(embeddings, list(adapters)).to(self.deltas.dtype)

    def point(self, slots: Ints, counts: Ints) -> None:
        """Point the step's tokens at their requests' slots: counts[i] tokens at slots[i], in order.

        Nothing is written while the batch stays as it is, which is nearly every decoding step.
        """
        batch = (slots.tobytes(), counts.tobytes())
        if batch == self._batch:
            return
        self._batch = batch
        of_token = np.repeat(slots, counts).astype(np.int64, copy=False)
        self.slot_of_token[: len(of_token)].copy_(torch.from_numpy(of_token))
