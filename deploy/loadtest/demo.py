"""The demo server for a load test, with queues so short that what it takes in is in time."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

START_S = 600
# Waiting lines of about a second's work on two cores; the defaults are for GPUs.
SHORT = {"BINDSERVE_MAX_REQUESTS": "12", "BINDSERVE_DECODE_WAITING": "8"}
FLAGS = ["--enforce-eager", "--uvicorn-log-level=warning"]


@contextmanager
def demo_server() -> Iterator[tuple[str, int]]:
    """Its URL and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server.cli.main", "demo", "--no-ask", f"--port={port}"]
    process = subprocess.Popen([*command, "--", *FLAGS], env={**os.environ, **SHORT})
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
    raise SystemExit("the demo server did not start")
