"""A ring of host buffers for asynchronous copies to the device.

A buffer must not be rewritten before the device has read it, so each buffer has an event that is
recorded after its copy. The ring is large enough that the host rarely waits.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from model_ext.engine.device import Device

Buffer = TypeVar("Buffer")


class Staging(Generic[Buffer]):
    def __init__(self, buffers: Sequence[Buffer], device: Device) -> None:
        self._ring = deque((buffer, device.event()) for buffer in buffers)

    @contextmanager
    def buffer(self) -> Iterator[Buffer]:
        """Yield a buffer to fill. The caller enqueues its copy inside of the `with` block.

        Waits until the previous copy of the same buffer has finished.
        """
        buffer, event = self._ring[0]
        self._ring.rotate(-1)
        event.synchronize()
        yield buffer
        event.record()
