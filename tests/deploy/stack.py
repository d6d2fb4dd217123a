"""compose.yaml's server, retrieval service and Prometheus as processes of this machine.

Commands, settings and secrets are compose's own. What containers would bring is replaced in them:
names of hosts, ports, and the folders that are mounted.
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

from tests.serving.launch import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
START_S = 300
Part = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Stack:
    folder: Path  # secrets/, prometheus/, logs
    server: str  # URLs
    cache: str
    prometheus: str

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def client_key(self) -> str:
        """The first of the keys; the second is Prometheus'."""
        return self.secret("keys").splitlines()[1]


@contextmanager
def stack(folder: Path, model: Path, cache: Path) -> Iterator[Stack]:
    """`model` in the demonstration model's place, `cache` in its cache's."""
    server_port, cache_port, prometheus_port = free_port(), free_port(), free_port()
    shutil.copy(DEPLOY / "compose" / "keys.sh", folder)
    subprocess.run([folder / "keys.sh"], check=True, stdout=subprocess.DEVNULL)
    here = {
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
        (folder / "prometheus" / path.name).write_text(replace(path.read_text(), here))
    services = yaml.safe_load(replace((DEPLOY / "compose" / "compose.yaml").read_text(), here))
    made = Stack(
        folder,
        *(f"http://127.0.0.1:{port}" for port in (server_port, cache_port, prometheus_port)),
    )
    # In the image, by the Dockerfile.
    image = {"BINDSERVE_DEMO_FOLDER": str(model), "BINDSERVE_PORT": str(server_port)}
    bindserve = [sys.executable, "-m", "server.cli.main"]
    prometheus = ["prometheus", f"--storage.tsdb.path={folder / 'data'}"]
    prometheus += [f"--web.listen-address=127.0.0.1:{prometheus_port}"]
    with ExitStack() as running:
        parts = {
            name: running.enter_context(
                part(folder, name, command, services["services"][name], image)
            )
            for name, command in (
                *(("cache", bindserve), ("server", bindserve), ("prometheus", prometheus)),
            )
        }
        for name, url in (
            *(("cache", f"{made.cache}/ready"), ("server", f"{made.server}/ready")),
            ("prometheus", f"{made.prometheus}/-/ready"),
        ):
            wait_until_ready(url, parts[name], folder / f"{name}.log")
        yield made


def replace(text: str, here: dict[str, str]) -> str:
    for name, replacement in here.items():
        text = text.replace(name, replacement)
    return text


@contextmanager
def part(
    folder: Path, name: str, command: list[str], service: dict[str, Any], image: dict[str, str]
) -> Iterator[Part]:
    variables = {**os.environ, **image, **service.get("environment", {}), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *service["command"]], cwd=ROOT, env=variables, stdout=log, stderr=log
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
