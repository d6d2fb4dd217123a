"""A ring of host buffers for asynchronous copies to the device.

A host buffer must not be rewritten before the device has read it. Each buffer has an event that is
recorded behind its copy. The ring is as long as the copies that are usually pending, so that the
host does not wait.
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
        """A buffer to fill. The caller enqueues the copy inside of the `with` block.

        Waits if the buffer's last copy, as many copies ago as the ring has buffers, is pending.
        """
        buffer, event = self._ring[0]
        self._ring.rotate(-1)
        event.synchronize()
        yield buffer
        event.record()
