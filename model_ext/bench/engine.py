"""The price of conditioning: our model against plain vLLM with the same language model.

Two engines with the same flags stand side by side; one is stopped (SIGSTOP) while the other runs.
Every request has a new embedding, prefix caching is off, prompts are the same on both sides.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ext.bench import random_model
from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.engine.adapter import CPU_WORKER

FLAGS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 32,
    "enable_prefix_caching": False,
    "kv_cache_memory_bytes": 1 << 29,  # of SmolLM2: 32 requests of 256 tokens, and some
}
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # An arm may be stopped in the middle of a step's end, for as long as the other one compiles.
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "86400",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What one measurement asks for, in requests and tokens."""

    name: str
    batch: int
    prompt: int
    tokens: int


LOADS = {
    load.name: load
    for load in (
        Load("decode-1", 1, 16, 32),
        Load("decode-32", 32, 16, 32),
        Load("first-token", 1, 64, 1),
    )
}


@dataclass(frozen=True, slots=True)
class Outcome:
    load: Load
    ratio: Ratio  # ours over plain: of speeds, or, for the first token, of times
    cpu: Ratio  # the same by the CPU time of all processes of an engine
    ours: float  # our Python code's share of the worker's CPU time

    def __str__(self) -> str:
        what = "time" if self.load.tokens == 1 else "speed"
        load = self.load
        return (
            f"{load.name}: {load.batch} x ({load.prompt} + {load.tokens}) tokens\n"
            f"  {what} over plain vLLM's  {self.ratio}\n"
            f"  the same by CPU time      {self.cpu}\n"
            f"  our code, of the worker   {self.ours:.2%}"
        )


def run(
    folder: Path,
    pairs: int,
    shape: random_model.Shape,
    loads: Iterable[Load] = LOADS.values(),
    eager: bool = False,
) -> Iterator[Outcome]:
    """Ours over plain, one load after the other: a speed of 1.0 is free, 0.97 costs 3%.

    `folder` keeps the random weights for the next run.
    """
    plain_model, our_model = random_model.write(folder, shape)
    flags = {**FLAGS, "enforce_eager": eager}
    with (
        arm(plain_model, flags) as plain,
        arm(our_model, {**flags, "worker_cls": CPU_WORKER}) as ours,
    ):
        for load in loads:
            yield compare(plain, ours, load, pairs)


def compare(plain: "Engine", ours: "Engine", load: Load, pairs: int) -> Outcome:
    for engine in (plain, ours):
        engine.run(load, seed=0)  # warm
    measured = measure(runs(plain, load), runs(ours, load), pairs)

    def compared(what: Callable[[Spent], float]) -> Ratio:
        """Plain seconds / our seconds = our speed / plain speed; of first tokens, the time."""
        found = [(what(plain), what(ours)) for plain, ours in measured]
        return ratio([(ours, plain) for plain, ours in found] if load.tokens == 1 else found)

    return Outcome(
        load,
        ratio=compared(lambda spent: spent.seconds),
        cpu=compared(lambda spent: spent.cpu),
        ours=ours.profile(load, seed=0),
    )


def runs(engine: "Engine", load: Load) -> Callable[[], "Spent"]:
    """The load with new prompts at each call, the same ones on both sides."""
    seeds = itertools.count(1)
    return lambda: engine.run(load, next(seeds))


@dataclass(frozen=True, slots=True)
class Spent:
    """What a load took, in seconds: by the clock, and of processors. Others disturb this less."""

    seconds: float
    cpu: float


class Engine:
    """A stopped engine process; `run` lets it go on for as long as it takes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._answer()
        self._signal(signal.SIGSTOP)

    def run(self, load: Load, seed: int) -> Spent:
        before = cpu_seconds(self.process.pid)
        answer = self._ask(load, seed)
        return Spent(answer["seconds"], cpu_seconds(self.process.pid) - before)

    def profile(self, load: Load, seed: int) -> float:
        """Our code's share of the worker's time. Profiling slows the run: no time is kept."""
        found = self._ask(load, seed, profile=True)
        return found["ours"] / found["steps"]

    def _ask(self, load: Load, seed: int, profile: bool = False) -> dict[str, float]:
        self._signal(signal.SIGCONT)
        request = {
            "batch": load.batch,
            "prompt": load.prompt,
            "tokens": load.tokens,
            "seed": seed,
            "profile": profile,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("an engine of the benchmark died; its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)  # the engine core and the worker too


def cpu_seconds(group: int) -> float:
    """That the threads of a group of processes have run so far."""
    spent = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if os.getpgid(int(process.name)) == group:
                for thread in process.glob("task/*/schedstat"):
                    spent += int(thread.read_text().split()[0])
    return spent / 1e9


@contextmanager
def arm(model: Path, flags: dict[str, Any], cpus: str = "auto") -> Iterator[Engine]:
    """`cpus` as vLLM binds its threads to them: "0,1"; by itself it leaves one to the front end."""
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
        yield Engine(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
