"""When requests arrive in the engine, compute the vectors (rows) that the model adds for them.

A request's rows are computed from its embedding and written to the slot table, from which the model
reads them. The requests that are new in a step are computed in batches of at most 64. For each
batch, the host enqueues one copy to the device, and the computation that writes the rows. On a GPU,
the computation is a CUDA graph, which is captured for a few batch sizes. A batch is padded to the
next size, and the results of the padding are written to an unused row of the table. The host reads
no results, so it does not wait for the device. The caller provides the function that computes the
rows.

Shapes: n new requests, D embedding dimensions, q injected layers, C hidden dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from model_ext.conditioning import Vector
from model_ext.engine.device import Device
from model_ext.engine.slots import SlotTable
from model_ext.engine.staging import Staging

# A function: (embeddings (n, D), the LoRA adapter of each request (0: none)) -> rows (q, n, C).
Deltas = Callable[[torch.Tensor, list[int]], torch.Tensor]

CAPTURED_SIZES = (1, 2, 4, 8, 16, 32, 64)
MAX_BATCH = CAPTURED_SIZES[-1]


class NewRequest(NamedTuple):
    slot: int
    embedding: Vector | None  # Shape (D,). None if the request has no embedding.
    adapter: int  # vLLM's id of the request's LoRA adapter; 0: none.


class Inputs:
    """A batch's embeddings and slots (row indices) in one block of memory, so that one copy
    transfers both.
    """

    def __init__(self, memory: torch.Tensor, embedding_dim: int) -> None:
        self._memory, self._row_size = memory, 4 * embedding_dim
        self.slots = memory[: 8 * MAX_BATCH].view(torch.int64)  # shape (MAX_BATCH,)
        rows = memory[8 * MAX_BATCH :].view(torch.float32)
        self.embeddings = rows.view(MAX_BATCH, embedding_dim)

    @staticmethod
    def size(embedding_dim: int) -> int:
        """Size of one block in bytes."""
        return MAX_BATCH * (8 + 4 * embedding_dim)

    def head(self, n: int) -> torch.Tensor:
        """Return the part of the block with all slots and the first n embeddings."""
        return self._memory[: 8 * MAX_BATCH + n * self._row_size]


class HostInputs(Inputs):
    """Inputs in host memory, and NumPy views of the same memory."""

    def __init__(self, memory: torch.Tensor, embedding_dim: int) -> None:
        super().__init__(memory, embedding_dim)
        self._slots, self._embeddings = self.slots.numpy(), self.embeddings.numpy()

    def fill(self, batch: Sequence[NewRequest], padded: int, spare_row: int) -> None:
        """Write slots and embeddings of the batch.

        The slot of padding entries is the table's unused row.
        """
        for i, new in enumerate(batch):
            self._slots[i] = new.slot
            if new.embedding is not None:
                self._embeddings[i] = new.embedding
        self._slots[len(batch) : padded] = spare_row


class Arrival:
    def __init__(
        self, table: SlotTable, deltas: Deltas, embedding_dim: int, device: Device
    ) -> None:
        self._table, self._deltas, self._device = table, deltas, device
        size = Inputs.size(embedding_dim)
        self._inputs = Inputs(
            torch.zeros(size, dtype=torch.uint8, device=device.torch), embedding_dim
        )
        # The maximum number of batches in two steps, if all requests of both steps are new
        pending = 2 * -(-table.rows // MAX_BATCH)
        buffers = [
            HostInputs(device.host_buffer(size, dtype=torch.uint8), embedding_dim)
            for _ in range(pending)
        ]
        self._staging = Staging(buffers, device)
        self._replays: dict[int, Callable[[], None]] = {}
        self._staged: dict[int, NewRequest] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture the computation as a CUDA graph for each batch size.

        Captures the largest size first, because the other graphs reuse its memory. The weights must
        have been loaded, and must keep their addresses. Before this call, batches are computed
        without graphs and without padding.
        """
        self._inputs.slots.fill_(self._table.spare_row)
        for size in reversed(CAPTURED_SIZES):
            self._replays[size] = self._device.capture(partial(self._compute, size, [0] * size))

    def stage(self, slot: int, embedding: Vector | None, adapter: int = 0) -> None:
        """Make the next `flush` compute the slot's row.

        Without an embedding (None), the row is zero.
        """
        self._staged[slot] = NewRequest(slot, embedding, adapter)

    @torch.inference_mode()
    def flush(self, *, with_adapter: bool = True) -> None:
        """Compute the rows of the staged requests.

        If `with_adapter` is False, requests with a LoRA adapter remain staged. Their rows can be
        computed only after vLLM has activated the adapters.
        """
        staged = [new for new in self._staged.values() if with_adapter or not new.adapter]
        if not staged:
            return
        for new in staged:
            del self._staged[new.slot]
        for batch in _batches([new for new in staged if new.embedding is None]):
            self._clear(batch)
        for batch in _batches(_conditioned(staged, with_adapter=False)):
            self._fill(batch)
        for batch in _batches(_conditioned(staged, with_adapter=True)):
            self._fill_adapted(batch)

    def _clear(self, batch: Sequence[NewRequest]) -> None:
        self._upload(batch, 0)
        self._table.deltas.index_fill_(1, self._inputs.slots[: len(batch)], 0)

    def _fill(self, batch: Sequence[NewRequest]) -> None:
        size = len(batch)
        if not self._replays:
            self._upload(batch, size)
            self._compute(size, [0] * size)
            return
        padded = 1 << (size - 1).bit_length()
        self._upload(batch, padded)
        self._replays[padded]()

    def _fill_adapted(self, batch: Sequence[NewRequest]) -> None:
        self._upload(batch, len(batch))
        self._compute(len(batch), [new.adapter for new in batch])

    def _upload(self, batch: Sequence[NewRequest], size: int) -> None:
        """Copy the slots and the first `size` embeddings of a padded batch to the device."""
        with self._staging.buffer() as host:
            host.fill(batch, size, self._table.spare_row)
            self._inputs.head(size).copy_(host.head(size), non_blocking=True)

    def _compute(self, size: int, adapters: list[int]) -> None:
        """Compute the rows of the first `size` inputs. Reads and writes only memory whose address
        does not change.
        """
        rows = self._deltas(self._inputs.embeddings[:size], adapters)
        self._table.deltas.index_copy_(
            1, self._inputs.slots[:size], rows.to(self._table.deltas.dtype)
        )


def _conditioned(staged: Sequence[NewRequest], *, with_adapter: bool) -> list[NewRequest]:
    return [
        new for new in staged if new.embedding is not None and bool(new.adapter) == with_adapter
    ]


def _batches(requests: Sequence[NewRequest]) -> Iterator[Sequence[NewRequest]]:
    for first in range(0, len(requests), MAX_BATCH):
        yield requests[first : first + MAX_BATCH]
