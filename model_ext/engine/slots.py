"""The slot table: a row of deltas for each request, and the slot of each token of the step.

A slot is the index of a request's row. The runner adapters write the slots, `arrival.py` writes the
rows, and the model's forward pass reads both. The buffers are allocated once and never move, so
that captured CUDA graphs stay valid. This file does not use vLLM.

Shapes: q injected layers, R slots (one for each request that may run, and one for each row that is
computed early), C hidden dimensions, N tokens of a step.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from model_ext.engine.device import Device
from model_ext.engine.staging import Staging

Ints = NDArray[np.integer]
# Number of steps whose copies can be unfinished before the host waits. vLLM overlaps 2 steps.
MAX_PENDING_STEPS = 4


class SlotTable:
    def __init__(
        self,
        layers: int,
        rows: int,
        hidden: int,
        tokens: int,
        dtype: torch.dtype,
        device: Device,
    ) -> None:
        # All rows, shape (q, R + 1, C). No request uses the last row; the padding of batches is
        # written to it.
        self.deltas = torch.zeros(layers, rows + 1, hidden, dtype=dtype, device=device.torch)
        self.layers = list(self.deltas.unbind())  # For each layer, a view (R + 1, C) of `deltas`.
        self.rows = self.spare_row = rows
        # The slot of each token, shape (N,).
        self.slot_of_token = torch.zeros(tokens, dtype=torch.int64, device=device.torch)
        buffers = [device.host_buffer(tokens, dtype=torch.int64) for _ in range(MAX_PENDING_STEPS)]
        self._staging = Staging([(buffer, buffer.numpy()) for buffer in buffers], device)
        self._batch: tuple[bytes, bytes] = (b"", b"")

    def point(self, slots: Ints, counts: Ints) -> None:
        """Assign a slot to each token of the step: slots[0] to the first counts[0] tokens, slots[1]
        to the next counts[1] tokens, and so on.

        Writes nothing if the batch is that of the last step, as in most decoding steps.
        """
        batch = (slots.tobytes(), counts.tobytes())
        if batch == self._batch:
            return
        self._batch = batch
        slot_of_token = np.repeat(slots, counts)
        n = len(slot_of_token)
        with self._staging.buffer() as (host, values):
            values[:n] = slot_of_token
            self.slot_of_token[:n].copy_(host[:n], non_blocking=True)
