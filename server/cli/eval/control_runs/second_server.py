"""Starts a server with a shuffled cache on this machine, for one control run."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from server.bench.service import free_port, started

START_TIMEOUT_S = 900
STOP_TIMEOUT_S = 60


class SecondServerError(RuntimeError):
    """Raised when the second server does not start. The message names its log file."""


@contextmanager
def second_server(model: Path, cache: Path, log: Path, flags: Sequence[str]) -> Iterator[str]:
    """Start a server of `model` with this cache, yield its URL, and stop the server at the end.

    `flags`: flags of `vllm serve`. Raises SecondServerError: when the server ends or is not ready
    in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "server.cli.main", "serve", str(model), f"--port={port}"]
    command += [f"--cache={cache}", "--served-model-name=shuffled", "--", *flags]
    # remove the variables that set bindserve's options, which are meant for the first server
    removed = dict.fromkeys(name for name in os.environ if name.startswith("BINDSERVE_"))
    with started(command, log, port, "/ready", removed, STOP_TIMEOUT_S) as service:
        try:
            service.wait(START_TIMEOUT_S)
        except RuntimeError as error:
            raise SecondServerError(f"the second server did not start; {log}: {error}") from None
        yield service.url
