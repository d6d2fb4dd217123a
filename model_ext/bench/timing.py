"""Seconds that a piece of work takes on a device, from an idle device to an idle device."""

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
    """Wait until a GPU has done all the work that was given to it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
