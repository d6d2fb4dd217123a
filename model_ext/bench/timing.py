"""Measure how many seconds a function takes on a device, which is idle at the start and at the end
of the measurement.
"""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device | str) -> None:
    """Wait until the GPU has finished all submitted work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
