"""Starts a server with a shuffled cache on this machine, for one control run."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 900
STOP_TIMEOUT_S = 60
POLL_S = 0.5


class SecondServerError(RuntimeError):
    """The second server did not start. The message names its log."""


@contextmanager
def second_server(model: Path, cache: Path, log: Path, flags: Sequence[str]) -> Iterator[str]:
    """Yield the URL of a server of `model` with this cache, and stop the server at the end.

    flags: of `vllm serve`. Raises SecondServerError: when the server ends or is not ready in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "server.cli.main", "serve", str(model), f"--port={port}"]
    command += [f"--cache={cache}", "--served-model-name=shuffled", "--", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment())
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """This process's environment, without the variables that set options of bindserve."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BINDSERVE_")}


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SecondServerError(
                f"the second server ended with status {process.returncode}; {log} says why"
            )
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return
        except OSError:  # the server does not listen yet, or responds with 503
            time.sleep(POLL_S)
    raise SecondServerError(f"the second server was not ready in {START_TIMEOUT_S} s; see {log}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
