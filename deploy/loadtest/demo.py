"""Start the demo server for a load test, with queue lengths for the speed of two CPU cores."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

START_S = 600
# Queues of these lengths contain about one second of work for two cores, so that the server answers
# accepted requests in time. The server's default lengths are meant for GPUs.
SHORT_QUEUES = {"BINDSERVE_MAX_REQUESTS": "12", "BINDSERVE_DECODE_WAITING": "8"}
FLAGS = ["--enforce-eager", "--uvicorn-log-level=warning"]


@contextmanager
def demo_server() -> Iterator[tuple[str, int]]:
    """Start the demo server and stop it at the end. Yields its URL and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server.cli.main", "demo", "--no-ask", f"--port={port}"]
    process = subprocess.Popen([*command, "--", *FLAGS], env={**os.environ, **SHORT_QUEUES})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the demo server was not ready within {START_S} s; its log is above")
