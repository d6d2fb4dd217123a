"""The demo server for a load test, with queues so short that what it takes in is in time."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from server.cli.demo import wait_until_ready

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
        if not wait_until_ready(url, lambda: process.poll() is None):
            raise SystemExit("the demo server did not start")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)
