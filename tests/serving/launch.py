"""Start real servers with the fixtures' models on vLLM's model runner V1 or V2, and send
requests.
"""

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
# Tests read the log-probabilities of all 512 tokens of the vocabulary, and use prompts of several
# cache blocks. On a GPU, servers use CUDA graphs and only a part of the memory, because several
# servers share the GPU.
FLAGS = [
    "--gpu-memory-utilization=0.03" if ON_GPU else "--enforce-eager",
    *("--dtype=float32", "--block-size=32", "--max-model-len=512"),
    *("--max-logprobs=512", "--enable-prompt-tokens-details", "--max-num-seqs=64"),
    "--kv-cache-memory-bytes=268435456",
]
# On a GPU, vLLM runs the worker of a single rank in the engine's process. On a CPU, pass the
# executor's class, because vLLM otherwise starts another process, whose imports take 10 s of CPU
# time.
UNIPROC = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
# The KV cache of 6 MiB holds about 1,200 tokens of the fixtures' model, and a prompt of more than
# 128 tokens is computed in chunks.
SMALL_CACHE = ["--kv-cache-memory-bytes=6291456", "--max-num-batched-tokens=128"]


@dataclass(frozen=True)
class Spec:
    """The specification of a server on one of the fixtures' models. Tests with equal specifications
    share a server.
    """

    model: str
    cache: str = "none"  # name of the retrieval index in the fixtures, or none
    runner: Runner = "v1"
    locked: bool = False  # Whether the server requires an API key and allows vllm_xargs.
    # Whether the KV cache is small, and the worker checks which request owns each row of its table
    # of embeddings.
    isolating: bool = False

    def __str__(self) -> str:
        return "-".join([self.model, self.cache, self.runner])


KEY = "sk-right"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}  # a server without keys ignores this header
PLAIN = Spec("finetune", "knn.index")
LOCKED = Spec("pretrain", locked=True, isolating=True)
# The tests run in this order of servers, on V1. Runner V2 is slow in Triton's interpreter:
# tests/deploy/test_gpu_check.py starts it once, with the third kind of checkpoint, "legacy".
# Neither runner sees the kind, because it receives converted weights and an embedding.
SPECS = [PLAIN, LOCKED]


@dataclass(frozen=True)
class Server:
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def children(self, module: str) -> list[int]:
        """Process ids of the server's direct children that run this module."""
        pids = []
        for pid in children(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                pids.append(pid)
        return pids

    def api_process(self) -> int:
        """The process id of the API process. Fails if there are several."""
        (pid,) = self.children("server.api")
        return pid

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=300, headers=AUTHORIZATION)

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
    """The server's environment variables.

    For V2, they make vLLM choose this runner without a GPU (see tests/triton_cpu). With `checking`,
    the worker checks its slots (see tests/checking).
    """
    interpreted = runner == "v2" and not ON_GPU
    paths = [TESTS / "triton_cpu"] * interpreted + [TESTS / "checking"] * checking
    paths += [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    variables["VLLM_LOGGING_LEVEL"] = "INFO"  # tests read the server's log
    if ON_GPU:
        return variables | gpu_environment(runner)
    if runner == "v2":
        variables |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    return variables


def gpu_environment(runner: Runner) -> dict[str, str]:
    """Disable tf32 in matrix products, so that results can be compared with goldens that were
    recorded on a CPU.
    """
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
    executor: str = UNIPROC,
    checking: bool = False,
    start_s: float = 300,
) -> Iterator[Server]:
    """Start a server and stop it at the end. `options` are for bindserve, `flags` for vLLM."""
    port = free_port()
    command = [sys.executable, "-m", "server.cli.main", "serve", str(model), f"--port={port}"]
    command += ["--served-model-name=any", *options, "--", *FLAGS, *flags]
    command += [f"--distributed-executor-backend={executor}"]
    variables = {**os.environ, **environment(runner, checking)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables)
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until_ready(server, start_s)
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
