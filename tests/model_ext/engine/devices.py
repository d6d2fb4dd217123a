"""Fake GPUs for tests on machines without a GPU."""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import _disable_current_modes

from model_ext.engine.device import Device


class DelayedDevice(Device):
    """A fake GPU that is busy. Operations are only enqueued until `run` executes them in order.

    Tensors are on the CPU. A test must append copies of tensors to `pending`.
    """

    captures = True

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.pending: list[Callable[[], object]] = []
        self.waits = 0  # number of times that the host waited

    def run(self, count: int | None = None) -> None:
        """Execute the first `count` pending operations, or all if `count` is None."""
        count = len(self.pending) if count is None else count
        operations, self.pending = self.pending[:count], self.pending[count:]
        with _disable_current_modes():
            for operation in operations:
                operation()

    def event(self) -> "DelayedEvent":
        return DelayedEvent(self)

    def capture(self, compute: Callable[[], None]) -> Callable[[], None]:
        return lambda: self.pending.append(compute)


class DelayedEvent:
    def __init__(self, device: DelayedDevice) -> None:
        self.device, self.happened = device, True

    def record(self) -> None:
        self.happened = False
        self.device.pending.append(self._happen)

    def _happen(self) -> None:
        self.happened = True

    def synchronize(self) -> None:
        if not self.happened:
            self.device.waits += 1
        while not self.happened:
            self.device.run(1)


class ValuelessDevice(Device):
    """A fake GPU on PyTorch's meta device, whose tensors have no values, so that a read by the host
    raises an error.

    `host_buffers` represent pinned memory.

    `launches` counts launched graphs. Operations inside a graph are hidden from the caller's torch
    dispatch mode.
    """

    captures = True

    def __init__(self) -> None:
        super().__init__(torch.device("meta"))
        self.host_buffers: list[torch.Tensor] = []
        self.launches = 0

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        self.host_buffers.append(super().host_buffer(*shape, dtype=dtype))
        return self.host_buffers[-1]

    def capture(self, compute: Callable[[], None]) -> Callable[[], None]:
        compute()

        def replay() -> None:
            self.launches += 1
            with _disable_current_modes():
                compute()

        return replay
