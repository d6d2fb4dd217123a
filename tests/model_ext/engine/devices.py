"""Test doubles of a GPU, for machines without a GPU."""

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import _disable_current_modes

from model_ext.engine.device import Device


class DelayedDevice(Device):
    """A busy GPU: the host enqueues operations, and `run` executes them in order.

    Tensors are on the CPU. The test must append tensor copies to `pending`.
    """

    captures = True

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.pending: list[Callable[[], object]] = []
        self.waits = 0  # how many times the host waited

    def run(self, count: int | None = None) -> None:
        """Execute the first `count` pending operations, or all."""
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
    """PyTorch's meta device: its tensors have no values, so every read by the host raises.

    `host_buffers` are the "pinned" buffers. Launching a graph counts as one operation: torch
    dispatch modes of the caller do not see the operations inside.
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
