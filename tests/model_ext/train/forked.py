"""Start training processes as forks of one process that has imported the training code.

Without the fork, each training process would need 6 s of CPU time for its imports.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deepspeed", "model_ext.train.run"])


class Forked:
    """A process that runs `python -m model_ext.train` with `arguments`, like a Popen object."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._process = CONTEXT.Process(target=_run, args=(list(arguments), log))
        # Set for the first call, which starts the process that later forks all others.
        with patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
            self._process.start()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises TimeoutError: after `timeout` seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError
        return self._process.exitcode


def _run(arguments: list[str], log: Path) -> None:
    from model_ext.train.__main__ import main

    os.setsid()  # a new process group, as for `subprocess.Popen(start_new_session=True)`
    with log.open("ab") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    sys.exit(main(arguments))
