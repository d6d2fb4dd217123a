"""The operations of a device that `arrival.py` uses: host buffers, events and graphs.

All code of the engine that runs only on a GPU is in this file.
"""

from collections.abc import Callable
from typing import Protocol

import torch


class Event(Protocol):
    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Device:
    """A CPU: copies finish before the call returns, and there are no graphs."""

    captures = False  # whether `capture` creates graphs

    def __init__(self, device: torch.device) -> None:
        self.torch = device

    @staticmethod
    def of(device: torch.device) -> "Device":
        return CudaDevice(device) if device.type == "cuda" else Device(device)

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Allocate zeros in host memory from which the device can copy asynchronously."""
        return torch.zeros(shape, dtype=dtype, device="cpu")

    def event(self) -> Event:
        return _Completed()

    def indices(self, values: list[int]) -> torch.Tensor:
        """Copy the values to an int64 tensor on the device. The host does not wait for the copy."""
        return torch.tensor(values, dtype=torch.int64, device=self.torch)

    def capture(self, compute: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `compute` launches.

        Returns a function that launches them again.
        """
        return compute


class CudaDevice(Device):
    """An NVIDIA GPU. Its graphs share one memory pool, because only one graph runs at a time."""

    captures = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream: torch.cuda.Stream | None = None  # the stream on which all captures run

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device="cpu", pin_memory=True)

    def event(self) -> Event:
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def indices(self, values: list[int]) -> torch.Tensor:
        # The pinned memory is a temporary object. PyTorch reuses it only after its copy has
        # finished.
        host = torch.tensor(values, dtype=torch.int64, device="cpu", pin_memory=True)
        return host.to(self.torch, non_blocking=True)

    def capture(self, compute: Callable[[], None]) -> Callable[[], None]:
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.torch)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
        # Run once outside of the graph, to load the kernels, and to let cuBLAS allocate the
        # stream's workspace in ordinary memory, which later captures reuse.
        self._stream.wait_stream(torch.cuda.current_stream(self.torch))
        with torch.cuda.stream(self._stream):
            compute()
            compute()
        torch.cuda.current_stream(self.torch).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            compute()
        graph.replay()  # the first launch also uploads the graph
        replay: Callable[[], None] = graph.replay
        return replay


class _Completed:
    """The event of a copy on a CPU, which has always finished."""

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass
