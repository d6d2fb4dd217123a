"""Start servers with the fixtures' models, on vLLM's model runner V1 or V2, and send requests."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pytest

TESTS = Path(__file__).parents[1]
FIXTURES = TESTS / "fixtures"
Runner = Literal["v1", "v2"]

ON_GPU = Path("/dev/nvidiactl").exists()
# Tests read log-probabilities of the whole vocabulary (512), and send prompts that need several
# blocks of the KV cache. On a GPU, a server uses CUDA graphs and a small part of the GPU's memory,
# because several servers share the GPU.
FLAGS = [
    "--gpu-memory-utilization=0.03" if ON_GPU else "--enforce-eager",
    *("--dtype=float32", "--block-size=32", "--max-model-len=512"),
    *("--max-logprobs=512", "--enable-prompt-tokens-details", "--max-num-seqs=64"),
    *("--kv-cache-memory-bytes=268435456", "--enable-auto-tool-choice"),
    "--tool-call-parser=hermes",
]


@dataclass(frozen=True)
class Spec:
    """The model and settings of a server. Tests with equal specifications share one server."""

    model: str
    cache: str = "none"  # the name of a fixture's index, or "none"
    runner: Runner = "v1"
    locked: bool = False  # If true, the server requires a key and allows vllm_xargs.

    def __str__(self) -> str:
        return "-".join([self.model, self.cache, self.runner])


KEY = "sk-right"
PLAIN = Spec("finetune", "knn.index")
LOCKED = Spec("pretrain", locked=True)
INTERPRETED = Spec("finetune", "knn.index", "v2")
# All servers of the tests, in the order of their start. No server has an IVF index and runner V2,
# because the engine receives the same vector from every index. tests/deploy/test_gpu_check.py tests
# the checkpoint "pretrain" on V2.
SPECS = [
    *(PLAIN, LOCKED, Spec("finetune", "knn-ivf.index"), Spec("legacy")),
    *(INTERPRETED, Spec("legacy", runner="v2")),
]


@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def children(self, module: str) -> list[int]:
        """Return the process ids of the server's direct children that run `module`."""
        pids = []
        for pid in children(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                pids.append(pid)
        return pids

    def api_process(self) -> int:
        """Return the id of the API process. Fails if there are several API processes."""
        (pid,) = self.children("server.api")
        return pid

    def post(self, path: str, body: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}"}  # A server without keys ignores the key.
        return httpx.post(f"{self.url}{path}", json=body, timeout=300, headers=headers)

    def chat(self, **request: object) -> dict[str, object]:
        response = self.post("/v1/chat/completions", {"model": "any", **request})
        assert response.status_code == 200, response.text
        body: dict[str, object] = response.json()
        return body


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def descendants(pid: int) -> list[int]:
    pids = children(pid)
    return pids + [each for child in pids for each in descendants(child)]


def environment(runner: Runner, checking: bool) -> dict[str, str]:
    """Return the server's environment variables.

    For runner V2, they make vLLM use this runner without a GPU (see tests/triton_cpu). If
    `checking`, vLLM's worker checks its slots (see tests/checking).
    """
    interpreted = runner == "v2" and not ON_GPU
    paths = [TESTS / "triton_cpu"] * interpreted + [TESTS / "checking"] * checking
    paths += [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    variables["VLLM_LOGGING_LEVEL"] = "INFO"  # The tests read the server's log.
    if ON_GPU:
        return variables | gpu_environment(runner)
    if runner == "v2":
        variables |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    return variables


def gpu_environment(runner: Runner) -> dict[str, str]:
    """Return variables that turn off TF32, because the recorded answers are from a CPU."""
    return {
        "VLLM_USE_V2_MODEL_RUNNER": str(int(runner == "v2")),
        "TRITON_F32_DEFAULT": "ieee",
        "NVIDIA_TF32_OVERRIDE": "0",
        "BINDSERVE_ENCODE_DTYPE": "float32",
    }


@contextmanager
def serve(
    model: Path,
    log: Path,
    *options: str,
    runner: Runner = "v1",
    flags: Sequence[str] = (),
    checking: bool = False,
) -> Iterator[Server]:
    """Start a server and stop it at the end. `options` are for bindserve, `flags` for vLLM."""
    port = free_port()
    command = [sys.executable, "-m", "server.cli.main", "serve", str(model), f"--port={port}"]
    command += ["--served-model-name=any", *options, "--", *FLAGS, *flags]
    variables = {**os.environ, **environment(runner, checking)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(server: Server, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the server did not come up:\n{server.log.read_text()[-8000:]}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def golden_index() -> dict[str, object]:
    index: dict[str, object] = json.loads((FIXTURES / "golden" / "index.json").read_text())
    return index
