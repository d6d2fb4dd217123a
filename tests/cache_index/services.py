"""Real retrieval services in separate processes, which tests can kill, and their clients."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from cache_index.build import build_from_features
from cache_index.client import CacheClient
from cache_index.enhance import Array, CacheParams

TOKEN = "secret"
PARAMS = CacheParams(top_k=9, inverse_temperature=7, weight=0.6)


class Process:
    """A `bindserve cache serve` process, which listens when the constructor returns."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        token = folder.parent / f"{folder.name}.token"
        token.write_text(TOKEN + "\n")
        command = [sys.executable, "-m", "server.cli.main", "cache", "serve", str(folder)]
        self.child = subprocess.Popen(
            [*command, f"--port={self.port}", f"--token-file={token}"],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not listening(self.port):
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise AssertionError("the service did not start")
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        self.child.send_signal(number)  # `send_signal` does nothing if the process has ended.
        return self.child.wait(30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def build(features: Array, folder: Path, **options: object) -> Path:
    """Create a folder, write the features (N, D) into it, and build a cache there. Returns the
    cache's folder.
    """
    folder.mkdir()
    np.save(folder / "f.npy", features)
    lines = "".join(f'"{row[0]:.6f}"\n' for row in features)
    (folder / "f.jsonl").write_text(lines)
    build_from_features(folder / "f.npy", folder / "c", progress=False, **options)  # type: ignore[arg-type]
    return folder / "c"


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncIterator[CacheClient]:
    """Yield a client of the service at `url`. `options`: other arguments of
    `CacheClient.connect`.
    """
    client = await CacheClient.connect(url, token=TOKEN, **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()
