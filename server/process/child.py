"""End child processes when their parent ends. Linux only; imports no large packages."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send the signal `by` to this process when its parent ends.

    `parent`: the parent's process id. If the parent has already ended, exits with status 1.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)
