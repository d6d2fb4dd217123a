"""Measure the cost of conditioning: compare the conditioned model with the same language model in
plain vLLM. The two models are the arms of the comparison. Each arm is an engine in a separate
process, with the same flags. One arm is stopped (SIGSTOP) while the other is measured, so that they
do not slow each other down. On a GPU, each arm gets a share of the memory. Every request has a new
embedding, prefix caching is off, and both arms get the same prompts.
"""

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from model_ext.bench import random_model
from model_ext.bench.pairs import Ratio, measure, ratio

Device = Literal["cpu", "cuda"]

ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # The benchmark may stop (SIGSTOP) an arm in the middle of a step for minutes, while the other
    # arm compiles. vLLM must not report this as a timeout.
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "86400",
}
CPU_FLAGS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 32,
    "enable_prefix_caching": False,
    # The KV cache holds more than 32 requests of 256 tokens with SmolLM2.
    "kv_cache_memory_bytes": 1 << 29,
}
CUDA_FLAGS: dict[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 512,
    "max_num_seqs": 256,
    "enable_prefix_caching": False,
    "load_format": "dummy",  # vLLM creates random weights on the GPU.
    "gpu_memory_utilization": 0.1,  # This share of the memory must be free.
}
# Size of the KV cache on a GPU in tokens, for 256 requests of 64 + 160 tokens
KV_TOKENS = 256 * 224
# GPU memory of an arm for activations, CUDA graphs, the bind network and products of layer weights
WORKSPACE_BYTES = 6 << 30
GPU_SHARE = 0.88  # Share of the GPU's memory that both arms use together.
WARM_UP_RUNS = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests of one measurement. If `min_tokens` is set, answers have different lengths."""

    name: str
    requests: int
    prompt: int  # Number of tokens of each prompt.
    tokens: int  # Number of tokens of each answer (with min_tokens, of the longest answer).
    min_tokens: int | None = None

    def __str__(self) -> str:
        answer = (
            f"{self.tokens}" if self.min_tokens is None else f"{self.min_tokens} to {self.tokens}"
        )
        return f"{self.requests} x ({self.prompt} + {answer}) tokens"


def by_name(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


WORKLOADS: dict[Device, dict[str, Workload]] = {
    "cpu": by_name(
        Workload("decode-1", 1, 16, 32),
        Workload("decode-32", 32, 16, 32),
        Workload("first-token", 1, 64, 1),
        # "churn" has twice as many requests as max_num_seqs, so that half of them wait.
        Workload("churn", 64, 16, 24, min_tokens=4),
    ),
    "cuda": by_name(
        Workload("first-token", 1, 64, 1),
        Workload("decode-1", 1, 64, 128),
        Workload("decode-32", 32, 64, 128),
        Workload("decode-256", 256, 64, 128),
        # "churn" has twice as many requests as max_num_seqs, so that half of them wait.
        Workload("churn", 512, 64, 240, min_tokens=16),
    ),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run of a workload: wall time, and CPU time of all processes of the arm."""

    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True)
class EngineResult:
    workload: Workload
    # Speed (or time to first token) of the conditioned arm, divided by that of the plain arm.
    ratio: Ratio
    cpu: Ratio  # Ratio of the arms' CPU times, which depend less on other programs.
    share: float | None  # Share of this project's Python code in the worker's CPU time.
    plain_s: float  # Median wall time of the plain arm in seconds.
    conditioned_s: float

    @property
    def of_times(self) -> bool:
        return self.workload.tokens == 1

    def __str__(self) -> str:
        quantity = "time" if self.of_times else "speed"
        return (
            f"{self.workload.name}: {self.workload}\n"
            f"  conditioned               {self.conditioned_s * 1000:.1f} ms\n"
            f"  plain vLLM                {self.plain_s * 1000:.1f} ms\n"
            f"  {quantity} / plain vLLM's     {self.ratio}\n"
            f"  ratio of CPU times        {self.cpu}\n"
            + ("" if self.share is None else f"  plugin's share of worker  {self.share:.2%}\n")
        ).rstrip()


def run(
    folder: Path,
    pairs: int,
    shape: random_model.Shape,
    workloads: Iterable[Workload] | None = None,
    eager: bool = False,
    device: Device = "cpu",
) -> Iterator[EngineResult]:
    """Compare the conditioned arm with the plain arm for each workload. A speed ratio of 0.97 means
    that conditioning costs 3%.

    On the CPU, `folder` keeps the random weights for the next run; on a GPU, only two config.json
    files are written to it.
    """
    with open_arms(folder, shape, eager, device) as (plain, conditioned):
        for workload in workloads or WORKLOADS[device].values():
            yield compare(plain, conditioned, workload, pairs)


@contextmanager
def open_arms(
    folder: Path, shape: random_model.Shape, eager: bool, device: Device
) -> Iterator[tuple["EngineArm", "EngineArm"]]:
    """Start both arms, and yield them when both are ready and stopped (SIGSTOP). On a machine with
    a GPU, both start at the same time.
    """
    write = random_model.write_configs if device == "cuda" else random_model.write
    plain_model, conditioned_model = write(folder, shape)
    flags = {**engine_flags(device, shape), "enforce_eager": eager}
    with start_arm(plain_model, flags) as plain:
        if device == "cpu":  # with few cores, start one arm after the other
            plain.wait_until_ready()
        with start_arm(conditioned_model, flags) as conditioned:
            plain.wait_until_ready()
            conditioned.wait_until_ready()
            yield plain, conditioned


def engine_flags(device: Device, shape: random_model.Shape, arms: int = 2) -> dict[str, Any]:
    """Return vLLM's flags for each of the `arms` engines that share one machine.

    Raises RuntimeError: when the GPU's memory is too small for these engines.
    """
    if device == "cpu":
        return CPU_FLAGS
    total = torch.cuda.get_device_properties(0).total_memory
    weights = 2 * shape.parameters
    free = int(total * GPU_SHARE) // arms - weights - WORKSPACE_BYTES
    if free < 64 * shape.kv_bytes * CUDA_FLAGS["max_model_len"] // 4:
        raise RuntimeError(
            f"a GPU of {total / 1e9:.0f} GB does not hold {arms} engines of {weights / 1e9:.1f} GB "
            "of weights each; use a smaller --shape"
        )
    return {**CUDA_FLAGS, "kv_cache_memory_bytes": min(free, KV_TOKENS * shape.kv_bytes)}


def compare(
    plain: "EngineArm",
    conditioned: "EngineArm",
    workload: Workload,
    pairs: int,
    *,
    profiled: bool = True,
) -> EngineResult:
    for seed in range(WARM_UP_RUNS):
        for arm in (plain, conditioned):
            arm.run(workload, seed=-1 - seed)
    measured = measure(runs(plain, workload), runs(conditioned, workload), pairs)

    def ratio_of(quantity: Callable[[Timing], float]) -> Ratio:
        """Return the ratio of speeds (plain time / conditioned time). For the workload that
        measures the time to the first token, return the ratio of times (conditioned / plain).
        """
        times = [(quantity(plain), quantity(conditioned)) for plain, conditioned in measured]
        return ratio(
            [(conditioned, plain) for plain, conditioned in times]
            if workload.tokens == 1
            else times
        )

    return EngineResult(
        workload,
        ratio=ratio_of(lambda timing: timing.seconds),
        cpu=ratio_of(lambda timing: timing.cpu),
        share=conditioned.profile(workload, seed=0) if profiled else None,
        plain_s=statistics.median(plain.seconds for plain, _ in measured),
        conditioned_s=statistics.median(conditioned.seconds for _, conditioned in measured),
    )


def runs(arm: "EngineArm", workload: Workload) -> Callable[[], Timing]:
    """Return a function that runs the workload. Each call sends new prompts, which are the same for
    both arms.
    """
    seeds = itertools.count(1)
    return lambda: arm.run(workload, next(seeds))


class EngineArm:
    """An engine process that is stopped (SIGSTOP). `run` continues the process for one workload."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._ready = False

    def wait_until_ready(self) -> None:
        if not self._ready:
            self._receive()
            self._ready = True
            self._signal(signal.SIGSTOP)

    def run(self, workload: Workload, seed: int) -> Timing:
        before = cpu_seconds(self.process.pid)
        answer = self._request(workload, seed)
        return Timing(answer["seconds"], cpu_seconds(self.process.pid) - before)

    def profile(self, workload: Workload, seed: int) -> float:
        """Return the share of this project's code in the worker's CPU time, measured in a separate
        run.
        """
        answer = self._request(workload, seed, profile=True)
        return answer["plugin"] / answer["steps"] if answer["steps"] else float("nan")

    def _request(self, workload: Workload, seed: int, profile: bool = False) -> dict[str, float]:
        self._signal(signal.SIGCONT)
        request = {
            "requests": workload.requests,
            "prompt": workload.prompt,
            "tokens": workload.tokens,
            "min_tokens": workload.min_tokens,
            "seed": seed,
            "profile": profile,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._receive()
        self._signal(signal.SIGSTOP)
        return answer

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("an engine of the benchmark ended; see its messages above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)  # the engine core and the worker also get the signal


def cpu_seconds(group: int) -> float:
    """Return the CPU time of all threads of a process group."""
    nanoseconds = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            if os.getpgid(int(process.name)) == group:
                for thread in process.glob("task/*/schedstat"):
                    nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e9


@contextmanager
def start_arm(model: Path, flags: dict[str, Any], cpus: str = "auto") -> Iterator[EngineArm]:
    """Start an engine process; it is ready after `wait_until_ready`.

    `cpus` binds vLLM's threads, such as "0,1"; "auto" leaves one core to the front end.
    """
    command = [sys.executable, "-m", "model_ext.bench.engine_arm", str(model), json.dumps(flags)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **ENVIRONMENT, "VLLM_CPU_OMP_THREADS_BIND": cpus},
    )
    try:
        yield EngineArm(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
