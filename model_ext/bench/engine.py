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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "kv_cache_memory_bytes": 1 << 30,
}


@dataclass(frozen=True, slots=True)
class Load:
    """What one measurement asks for, in requests and tokens."""

    name: str
    batch: int
    prompt: int
    tokens: int


LOADS = (
    Load("decode, batch 1", 1, 16, 32),
    Load("decode, batch 32", 32, 16, 32),
    Load("time to first token", 1, 64, 1),
)


def run(
    folder: Path, pairs: int, shape: random_model.Shape, eager: bool = False
) -> dict[str, Ratio]:
    """Speed of ours over plain, one ratio a load: 1.0 is free, 0.97 costs 3%.

    `folder` keeps the random weights for the next run. For the first token the ratio is of times
    instead, ours over plain.
    """
    plain_model, our_model = random_model.write(folder, shape)
    flags = {**FLAGS, "enforce_eager": eager}
    found = {}
    with (
        arm(plain_model, flags) as plain,
        arm(our_model, {**flags, "worker_cls": CPU_WORKER}) as ours,
    ):
        for load in LOADS:
            for engine in (plain, ours):
                engine.run(load, seed=0)  # warm
            seconds = measure(runs(plain, load), runs(ours, load), pairs)
            # plain seconds / our seconds = our speed / plain speed
            first_token = load.tokens == 1
            found[load.name] = ratio([(b, a) for a, b in seconds] if first_token else seconds)
            print(f"{load.name:24} {found[load.name]}", flush=True)
    return found


def runs(engine: "Engine", load: Load) -> Callable[[], float]:
    """The load with new prompts at each call, the same ones on both sides."""
    seeds = itertools.count(1)
    return lambda: engine.run(load, next(seeds))


class Engine:
    """A stopped engine process; `run` lets it go on for as long as it takes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._answer()
        self._signal(signal.SIGSTOP)

    def run(self, load: Load, seed: int) -> float:
        """Seconds for the load."""
        self._signal(signal.SIGCONT)
        request = {
            "batch": load.batch,
            "prompt": load.prompt,
            "tokens": load.tokens,
            "seed": seed,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        seconds: float = self._answer()["seconds"]
        self._signal(signal.SIGSTOP)
        return seconds

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("an engine of the benchmark died; its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)  # the engine core and the worker too


@contextmanager
def arm(model: Path, flags: dict[str, Any]) -> Iterator[Engine]:
    command = [sys.executable, "-m", "model_ext.bench.engine_arm", str(model), json.dumps(flags)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "WARNING"},
    )
    try:
        yield Engine(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
