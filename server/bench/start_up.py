"""Measure the start-up time of `bindserve serve` and of `vllm serve`, with random weights.

The start-up time is the time from the command until the server is ready.
"""

import statistics
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.bench.random_model import Shape
from model_ext.bench.serving_folder import write_plain_folder, write_serving_folder
from model_ext.imagebind.config import ImageBindConfig
from server.bench.service import Service, start_plain_vllm, start_server

MAX_START_S = 600
CPU_FLAGS = ("--enforce-eager", "--dtype=float32", f"--kv-cache-memory-bytes={1 << 28}")


@dataclass(frozen=True, slots=True)
class StartUp:
    bindserve_s: float  # median of the measured seconds
    vllm_s: float
    ratio: Ratio  # bindserve's seconds divided by vLLM's seconds

    def __str__(self) -> str:
        return (
            f"seconds from the command until the server is ready\n"
            f"  bindserve serve           {self.bindserve_s:.1f} s\n"
            f"  vllm serve                {self.vllm_s:.1f} s\n"
            f"  bindserve's time / vLLM's {self.ratio}"
        )


def flags(device: str) -> list[str]:
    """Return the vLLM flags with which both servers start."""
    return ["--load-format=dummy", *(CPU_FLAGS if device == "cpu" else ())]


def run(folder: Path, pairs: int, shape: Shape, encoders: ImageBindConfig, device: str) -> StartUp:
    """Start both servers `pairs` times. `folder`: where to write model folders and the logs.

    Raises RuntimeError: when a server does not start.
    """
    served, plain = folder / "served", folder / "plain-vllm"
    write_serving_folder(served, shape, encoders)
    write_plain_folder(plain, shape)

    def bindserve() -> float:
        return start_s(start_server(served, folder / "bindserve.log", flags(device)))

    def vllm() -> float:
        return start_s(start_plain_vllm(plain, folder / "vllm.log", flags(device)))

    times = measure(bindserve, vllm, pairs)
    return StartUp(
        statistics.median(first for first, _ in times),
        statistics.median(second for _, second in times),
        ratio(times),
    )


def start_s(starting: AbstractContextManager[Service]) -> float:
    with starting as service:
        return service.wait(MAX_START_S)
