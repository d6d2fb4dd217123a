"""Run batches on the device of the encoders: directly on a CPU, asynchronously on a GPU.

On a GPU, `stage` copies a sample from pinned memory while an earlier batch runs. `start` enqueues a
batch and the copy of its result to pinned memory; both begin when the running batch has ended. Only
`Run.result` waits for the GPU.

Shapes: B samples, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.graphs import Graphs, capture_on_gpu
from model_ext.imagebind.model import ImageBind

Vectors = NDArray[np.float32]


class Model(Protocol):
    """The methods of `ImageBind` and `Graphs` that runners call."""

    def unit_and_length(self, modality: str, inputs: Tensor) -> Tensor: ...


class Run(Protocol):
    """A batch that has been started."""

    def result(self) -> Vectors:
        """Wait for the batch. Returns (B, D + 1): embeddings of length 1 and, as the last column,
        their lengths before normalisation.
        """


class Runner(Protocol):
    asynchronous: bool  # whether `start` returns before the batch has run

    def stage(self, sample: Tensor) -> Tensor:
        """Begin to copy a sample (without batch axis) to the device."""

    def start(self, modality: str, samples: Sequence[Tensor]) -> Run:
        """Begin to encode staged samples of one shape."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    vectors: Vectors

    def result(self) -> Vectors:
        return self.vectors


class CpuRunner:
    asynchronous = False

    def __init__(self, model: Model) -> None:
        self._model = model

    def stage(self, sample: Tensor) -> Tensor:
        return sample

    @torch.inference_mode()
    def start(self, modality: str, samples: Sequence[Tensor]) -> FinishedRun:
        return FinishedRun(
            self._model.unit_and_length(modality, torch.stack(tuple(samples))).numpy()
        )


@dataclass(frozen=True, slots=True)
class GpuRun:
    # Another CUDA stream allocated the memory of the samples, so the `Run` references them until
    # the batch has read them.
    samples: Sequence[Tensor]
    vectors: Tensor
    done: torch.cuda.Event

    def result(self) -> Vectors:
        self.done.synchronize()
        vectors: Vectors = self.vectors.numpy()
        return vectors


class GpuRunner:
    asynchronous = True

    def __init__(self, model: Model, device: torch.device | str) -> None:
        self._model = model
        self._device = torch.device(device)
        self._copies = torch.cuda.Stream(self._device)
        self._compute = torch.cuda.Stream(self._device)

    def stage(self, sample: Tensor) -> Tensor:
        """The allocator of pinned memory reuses the buffer only after the copy has finished."""
        with torch.cuda.stream(self._copies):
            return sample.pin_memory().to(self._device, non_blocking=True)

    @torch.inference_mode()
    def start(self, modality: str, samples: Sequence[Tensor]) -> GpuRun:
        self._compute.wait_stream(self._copies)
        with torch.cuda.stream(self._compute):
            vectors = self._model.unit_and_length(modality, torch.stack(tuple(samples)))
            result = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            result.copy_(vectors, non_blocking=True)
            done = torch.cuda.Event(blocking=True)
            done.record(self._compute)
        return GpuRun(samples, result, done)


def open_runner(
    model: ImageBind, device: torch.device | str, max_tokens: int, *, graphs: bool = True
) -> Runner:
    """Create a runner for batches of at most `max_tokens`. On a GPU, warms up for some seconds."""
    if torch.device(device).type != "cuda":
        return CpuRunner(model)
    with torch.cuda.device(device):
        torch.cuda.empty_cache()  # release the memory of the weights' float32 copies
        graphed = Graphs(model, capture_on_gpu(device))
        graphed.warm_up(max_tokens, max_graph_tokens=None if graphs else 0)
        torch.cuda.synchronize()
    return GpuRunner(graphed, device)


def max_gpu_bytes(device: torch.device | str, staged_bytes: int) -> int:
    """Return the maximum GPU memory of this process in bytes; 0 on a CPU.

    It is the peak of torch's reserved memory, plus `staged_bytes` for waiting samples. Call this
    after the warm-up, which runs the largest batches.
    """
    if torch.device(device).type != "cuda":
        return 0
    return torch.cuda.max_memory_reserved(device) + staged_bytes
