"""Encode: tensors of many requests to unit embeddings, in one thread, batched by modality.

While a batch runs, arrivals wait; the next batch is all of them that stack with the oldest one.
Nobody waits for a batch to fill up. It does not know requests, weights or bytes.

Shapes: B samples, D embedding dimensions.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model_ext.conditioning import Vector
from server.errors import BadRequest, Unavailable

logger = logging.getLogger(__name__)


OnBatch = Callable[[str, int], None]  # told, in the encoder's thread, before a batch runs


class Model(Protocol):
    """What we need of `model_ext.imagebind.model.ImageBind`."""

    def unit(self, modality: str, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    encoder: str
    tensor: Tensor  # without the batch axis
    future: Future[Vector] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[str, torch.Size, torch.dtype]:
        """Only samples of one kind stack."""
        return self.encoder, self.tensor.shape, self.tensor.dtype


class Encoder:
    def __init__(
        self,
        model: Model,
        *,
        device: torch.device | str = "cpu",
        max_batch: int = 16,
        max_waiting: int = 256,
        threads: int = 1,
    ) -> None:
        """`threads`: torch's own, for one batch."""
        self.on_batch: OnBatch | None = None
        self._model = model
        self._device = device
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._threads = threads
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    async def encode(self, encoder: str, tensor: Tensor) -> Vector:
        """One sample without batch axis -> (D,). Cancelling the caller takes it out of the queue.

        Unavailable if the queue is full, BadRequest if the sample has no embedding.
        """
        return await asyncio.wrap_future(self.submit(encoder, tensor))

    def submit(self, encoder: str, tensor: Tensor) -> Future[Vector]:
        request = Waiting(encoder, tensor)
        with self._changed:
            if self._closed:
                raise Unavailable("the encoders are shutting down")
            if len(self._waiting) >= self._max_waiting:
                raise Unavailable(
                    "too many files are waiting to be encoded", code="encode_queue_full"
                )
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Answer those who wait, refuse new ones, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # OpenMP keeps this per calling thread
        while batch := self._next_batch():
            wanted = [r for r in batch if r.future.set_running_or_notify_cancel()]
            if wanted:
                if self.on_batch is not None:
                    self.on_batch(wanted[0].encoder, len(wanted))
                self._answer(wanted)

    def _next_batch(self) -> list[Waiting]:
        """The oldest and those of its kind, at most max_batch; empty only when closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            kind = self._waiting[0].kind
            batch = [r for r in self._waiting if r.kind == kind][: self._max_batch]
            taken = {id(r) for r in batch}
            self._waiting = deque(r for r in self._waiting if id(r) not in taken)
            return batch

    def _answer(self, batch: list[Waiting]) -> None:
        try:
            embeddings = self._unit(batch)
        except Exception as error:  # a batch may fail, the thread must live
            if len(batch) > 1:
                for request in batch:  # one of them is to blame: the others must not suffer
                    self._answer([request])
                return
            logger.exception("a %s input of shape %s failed", *batch[0].kind[:2])
            batch[0].future.set_exception(_failure(error))
            return
        for request, embedding in zip(batch, embeddings, strict=True):
            if np.isfinite(embedding).all() and embedding.any():
                request.future.set_result(embedding.copy())  # not a view that keeps the batch
            else:
                request.future.set_exception(
                    BadRequest("the file has no embedding: it is not a finite vector")
                )

    @torch.inference_mode()
    def _unit(self, batch: list[Waiting]) -> Vector:
        inputs = torch.stack([request.tensor for request in batch]).to(self._device)
        embeddings: Vector = self._model.unit(batch[0].encoder, inputs).cpu().numpy()
        return embeddings


def _failure(error: Exception) -> Exception:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Unavailable("not enough memory to encode the file")
    return BadRequest("the file cannot be encoded")
