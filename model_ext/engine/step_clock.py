"""StepClock: a file with the time of the engine's last step, by which the API process notices that
the engine has stalled.

A worker gets the file's path in an environment variable, not in vLLM's configuration, where it
would change the keys of vLLM's compile caches at each start.
"""

import os
import struct
import time
from pathlib import Path
from typing import Self

VARIABLE = "BINDSERVE_STEP_FILE"
FORMAT = struct.Struct("d")


class StepClock:
    def __init__(self, descriptor: int | None) -> None:
        """`descriptor`: the open file; with None, no times are recorded."""
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create the file, and pass its path to later child processes. Raises OSError."""
        os.environ[VARIABLE] = str(path)
        clock = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        clock.record()
        return clock

    @classmethod
    def inherited(cls) -> Self:
        """Open the file that the parent process created."""
        path = os.environ.get(VARIABLE)
        try:
            return cls(None if path is None else os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError:  # the worker runs on another machine, which does not have the file
            return cls(None)

    def record(self) -> None:
        """Record that a step begins now. This takes about two microseconds."""
        if self._descriptor is not None:
            os.pwrite(self._descriptor, FORMAT.pack(time.monotonic()), 0)

    def last(self) -> float:
        """Return the monotonic time of the last step, or the current time if no steps are
        recorded.
        """
        if self._descriptor is None:
            return time.monotonic()
        (seconds,) = FORMAT.unpack(os.pread(self._descriptor, FORMAT.size, 0))
        return float(seconds)
