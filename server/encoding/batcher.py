"""Batcher: encodes the tensors of many requests to unit embeddings, in batches of one modality.

One thread forms the batches. A batch contains the first waiting sample, and other waiting samples
with the same encoder, shape and dtype, up to a maximum number of tokens. It starts without waiting
for more samples. Samples of different clients take turns. While a batch runs on a GPU, the thread
copies the waiting samples to the GPU. This module does not depend on requests, weights or files.

A result (D + 1,) is a unit embedding (D,) and, as its last number, the embedding's length before
the normalisation, which is the modality's scale or less. If the server has a decoder of pictures,
the vector that conditions it (D,) follows. Shapes: B samples, D embedding dimensions.
"""

import asyncio
import logging
import threading
import time
from bisect import insort, insort_left
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from model_ext.conditioning import Vector
from model_ext.imagebind.runner import Run, Runner
from server.errors import BadRequest, RequestError, Unavailable
from server.fairness.order import FairOrder
from server.fairness.share import FairShare

logger = logging.getLogger(__name__)

# Maximum number of batches on the device. While one batch runs, only a full batch is started.
MAX_RUNNING = 2
MAX_STAGED_BYTES = 1 << 28  # Maximum bytes of waiting samples that have been copied to the device.

# The batcher's thread calls this function for each batch, with (encoder, number of samples).
OnBatch = Callable[[str, int], None]
# A function that returns one sample's number of tokens, from (encoder, shape of the sample).
Tokens = Callable[[str, Sequence[int]], int]


@dataclass(slots=True, eq=False)
class Waiting:
    """A sample that waits for its embedding."""

    encoder: str
    tensor: Tensor  # the sample without the batch axis
    future: Future[Vector] = field(default_factory=Future)
    client: str = ""
    # Samples are encoded in the order of `number` (FairOrder).
    number: float = 0

    staged: Tensor | None = None  # Copy of `tensor` on the device.

    # Whether to encode the sample in a batch of one, because its last batch failed.
    alone: bool = False

    @property
    def key(self) -> tuple[str, torch.Size, torch.dtype]:
        """Only samples with equal keys can share a batch."""
        return self.encoder, self.tensor.shape, self.tensor.dtype


class Batcher:
    def __init__(
        self,
        runner: Runner,
        tokens: Tokens,
        *,
        max_tokens: int,
        max_waiting: int = 256,
        threads: int = 1,
    ) -> None:
        """`max_tokens`: the maximum number of tokens in one batch. `threads`: the number of torch's
        threads for a batch on a CPU.
        """
        self.on_batch: OnBatch | None = None
        self._runner = runner
        self._tokens = tokens
        self._max_tokens = max_tokens
        self._threads = threads
        self._waiting: deque[Waiting] = deque()  # ordered by `number`
        self._shares, self._order = FairShare(max_waiting), FairOrder()
        self._running = 0  # Number of batches that are running.
        self._progress = 0.0  # Time at which a batch last began on an idle device, or ended.
        self._changed = threading.Condition()
        self._closed = False
        self._broken = False
        self._finisher = ThreadPoolExecutor(1, "batcher-results") if runner.asynchronous else None
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed and not self._broken

    def stalled_s(self) -> float:
        """Return the seconds since the running batch began, or since another batch ended if that is
        later. Returns 0 if no batch runs.
        """
        return time.monotonic() - self._progress if self._running else 0

    async def encode(self, encoder: str, tensor: Tensor, client: str = "") -> Vector:
        """Encode one sample (without batch axis). Returns (D + 1,): the unit embedding and its norm
        before normalisation; or (2 D + 1,) if the model has `keep_prenorm`.

        Cancelling the caller removes the sample from the queue.

        Raises Unavailable: when the queue is full, memory is short or the device failed.
        Raises BadRequest: when the sample has no embedding.
        """
        return await asyncio.wrap_future(self.submit(encoder, tensor, client))

    def submit(self, encoder: str, tensor: Tensor, client: str = "") -> Future[Vector]:
        request = Waiting(encoder, tensor, client=client)
        with self._changed:
            if self._closed:
                raise Unavailable("the encoders are shutting down")
            if not self._shares.take(client):
                raise Unavailable(
                    "too many files are waiting to be encoded", code="encode_queue_full"
                )
            request.number = self._order.number(client, self._tokens(encoder, tensor.shape))
            insort(self._waiting, request, key=lambda each: each.number)
            self._changed.notify_all()
        return request.future

    def close(self) -> None:
        """Encode the waiting samples, reject new samples, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._finisher is not None:
            self._finisher.shutdown()

    def _run(self) -> None:
        # set in this thread, because OpenMP stores the number per calling thread
        torch.set_num_threads(self._threads)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._startable() or self._stageable() or self._done)
                batch, sample = self._startable(), self._stageable()
                for request in batch:
                    self._remove(request)
            if batch:
                self._start(batch)
            elif sample is not None:
                self._stage(sample)
            else:
                return

    def _remove(self, request: Waiting) -> None:
        self._waiting.remove(request)
        self._shares.give_back(request.client)
        self._order.start(request.number, last=not self._waiting)

    @property
    def _done(self) -> bool:
        return self._closed and not self._waiting and not self._running

    def _startable(self) -> list[Waiting]:
        """Return the next batch if it should start now, else an empty list."""
        if not self._waiting or self._running >= MAX_RUNNING:
            return []
        first = self._waiting[0]
        if first.alone:
            return [] if self._running else [first]
        room = max(1, self._max_tokens // self._tokens(first.encoder, first.tensor.shape))
        batch = [r for r in self._waiting if r.key == first.key and not r.alone][:room]
        return batch if not self._running or len(batch) == room else []

    def _stageable(self) -> Waiting | None:
        """Return the next sample to copy to the device while a batch runs."""
        if not self._runner.asynchronous:
            return None
        staged = sum(r.staged.nbytes for r in self._waiting if r.staged is not None)
        unstaged = (r for r in self._waiting if r.staged is None)
        return next(unstaged, None) if staged < MAX_STAGED_BYTES else None

    def _stage(self, request: Waiting) -> None:
        try:
            request.staged = self._runner.stage(request.tensor)
        except Exception as error:  # an error must not end the thread
            with self._changed:
                self._remove(request)
            if _claim(request):
                self._fail(request, error)

    def _start(self, requests: list[Waiting]) -> None:
        batch = [request for request in requests if _claim(request)]
        if not batch:
            return
        encoder = batch[0].encoder
        if self.on_batch is not None and not batch[0].alone:
            self.on_batch(encoder, len(batch))
        with self._changed:
            if not self._running:
                self._progress = time.monotonic()
            self._running += 1
        try:
            samples = [
                r.staged if r.staged is not None else self._runner.stage(r.tensor) for r in batch
            ]
            run = self._runner.start(encoder, samples)
        except Exception as error:  # an error must not end the thread
            self._finished(batch, error)
            return
        if self._finisher is None:
            self._finish(batch, run)
        else:
            self._finisher.submit(self._finish, batch, run)

    def _finish(self, batch: list[Waiting], run: Run) -> None:
        """Wait until the batch has run, and set the results. On a GPU, a second thread calls this
        method.
        """
        try:
            embeddings = run.result()
        except Exception as error:  # an error must not end the thread
            self._finished(batch, error)
            return
        for request, embedding in zip(batch, embeddings, strict=True):
            if np.isfinite(embedding).all() and embedding.any():
                # Copy the row, because a view would keep the whole batch in memory.
                request.future.set_result(embedding.copy())
            else:
                request.future.set_exception(
                    BadRequest(
                        "the file has no embedding: the encoder's output contains NaN or infinity, "
                        "or only zeros"
                    )
                )
        self._finished(batch)

    def _finished(self, batch: list[Waiting], error: Exception | None = None) -> None:
        """Record that the batch has ended.

        After an error, the batcher's thread encodes each sample of the batch again, in a batch of
        one, so that only the sample that caused the error fails.
        """
        if error is not None and (len(batch) == 1 or _is_final(error)):
            for request in batch:
                self._fail(request, error)
            batch, error = [], None
        with self._changed:
            self._running -= 1
            self._progress = time.monotonic()
            if error is not None:
                for request in reversed(batch):
                    request.alone = True
                    insort_left(self._waiting, request, key=lambda each: each.number)
                    self._shares.add(request.client)
            self._changed.notify_all()

    def _fail(self, request: Waiting, error: Exception) -> None:
        self._broken = self._broken or _is_final(error)
        shape = tuple(request.tensor.shape)
        logger.error("a %s input of shape %s failed", request.encoder, shape, exc_info=error)
        request.future.set_exception(_response(error))


def _claim(request: Waiting) -> bool:
    """Mark the future as running. Returns False if the caller has cancelled it."""
    return request.alone or request.future.set_running_or_notify_cancel()


def _is_final(error: Exception) -> bool:
    """Whether the error means that the device failed. Later calls on the device then fail, too."""
    return isinstance(error, torch.AcceleratorError)


def _response(error: Exception) -> RequestError:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Unavailable("not enough memory to encode the file")
    if _is_final(error):
        return Unavailable("the device of the encoders failed")
    return BadRequest("the file cannot be encoded")
