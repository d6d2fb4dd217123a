"""Run the server, the retrieval service and Prometheus of compose.yaml as processes.

Uses the commands, settings and secrets of compose.yaml. Replaces host names, ports and mounted
folders, which exist only in containers.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.serving.launch import UNIPROC, free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
START_S = 300
Part = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Stack:
    folder: Path  # The folder contains secrets/, prometheus/ and logs.
    server: str  # `server`, `cache` and `prometheus` are URLs.
    cache: str
    prometheus: str

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def client_key(self) -> str:
        """Return the API key for clients, which is on line 2 of the file `keys`."""
        return self.secret("keys").splitlines()[1]


@contextmanager
def stack(folder: Path, model: Path, cache: Path) -> Iterator[Stack]:
    """Start the services with `model` and `cache` instead of the demo model and its cache."""
    server_port, cache_port, prometheus_port = free_port(), free_port(), free_port()
    shutil.copy(DEPLOY / "compose" / "keys.sh", folder)
    subprocess.run([folder / "keys.sh"], check=True, stdout=subprocess.DEVNULL)
    replacements = {
        "/opt/bindserve/demo-model/cache": str(cache),
        "/run/secrets": str(folder / "secrets"),
        "/etc/prometheus": str(folder / "prometheus"),
        "server:8000": f"127.0.0.1:{server_port}",
        "cache:8100": f"127.0.0.1:{cache_port}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=8100": f"--port={cache_port}",
    }
    (folder / "prometheus").mkdir()
    for path in (DEPLOY / "prometheus").iterdir():
        (folder / "prometheus" / path.name).write_text(replace(path.read_text(), replacements))
    services = yaml.safe_load(
        replace((DEPLOY / "compose" / "compose.yaml").read_text(), replacements)
    )
    running = Stack(
        folder,
        *(f"http://127.0.0.1:{port}" for port in (server_port, cache_port, prometheus_port)),
    )
    # The Dockerfile sets these environment variables in the container image.
    image = {"BINDSERVE_DEMO_FOLDER": str(model), "BINDSERVE_PORT": str(server_port)}
    bindserve = [sys.executable, "-m", "server.cli.main"]
    prometheus = ["prometheus", f"--storage.tsdb.path={folder / 'data'}"]
    prometheus += [f"--web.listen-address=127.0.0.1:{prometheus_port}"]
    with ExitStack() as processes:
        parts = {
            name: processes.enter_context(
                part(folder, name, command, services["services"][name], image)
            )
            for name, command in (
                *(("cache", bindserve), ("server", bindserve), ("prometheus", prometheus)),
            )
        }
        for name, url in (
            *(("cache", f"{running.cache}/ready"), ("server", f"{running.server}/ready")),
            ("prometheus", f"{running.prometheus}/-/ready"),
        ):
            wait_until_ready(url, parts[name], folder / f"{name}.log")
        yield running


def replace(text: str, replacements: dict[str, str]) -> str:
    for name, replacement in replacements.items():
        text = text.replace(name, replacement)
    return text


@contextmanager
def part(
    folder: Path, name: str, command: list[str], service: dict[str, Any], image: dict[str, str]
) -> Iterator[Part]:
    variables = {**os.environ, **image, **service.get("environment", {}), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("wb") as log:
        # Arguments after "--" are passed to vLLM.
        executor = [f"--distributed-executor-backend={UNIPROC}"] * ("--" in service["command"])
        process = subprocess.Popen(
            [*command, *service["command"], *executor],
            **{"cwd": ROOT, "env": variables, "stdout": log, "stderr": log},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(url: str, process: Part, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer: {log.read_text()[-4000:]}")
