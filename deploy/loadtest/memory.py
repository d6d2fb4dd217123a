"""Sample the server's memory during a load test.

The server's /metrics reports the memory of the API process. If the server runs on this machine,
this module also adds up the memory of all processes of the server.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import psutil

RESIDENT = re.compile(r"^process_resident_memory_bytes ([0-9.e+]+)$", re.MULTILINE)
MB = 1e6


class Sample(TypedDict):
    at_s: float
    api_mb: float | None  # Resident memory of the API process, from its /metrics.
    all_mb: float | None  # Private memory of all processes.
    processes: int | None
    descriptors: int | None  # open files and sockets of all processes


class Sampler:
    def __init__(self, metrics: Callable[[], str], pid: int | None) -> None:
        """`metrics` reads /metrics; `pid` is the server's parent process on this machine."""
        self.samples: list[Sample] = []
        self._metrics = metrics
        self._pid = pid

    def watch(self, started: float, every_s: float, sleep: Callable[[float], None]) -> None:
        """Take a sample every `every_s` seconds until the greenlet is killed."""
        while True:
            self.samples.append(self.sample(time.perf_counter() - started))
            sleep(every_s)

    def sample(self, at_s: float) -> Sample:
        match = RESIDENT.search(self._metrics())
        sample = Sample(at_s=at_s, api_mb=None, all_mb=None, processes=None, descriptors=None)
        if match:
            sample["api_mb"] = float(match[1]) / MB
        if self._pid is not None:
            processes = process_tree(self._pid)
            sample["processes"] = len(processes)
            sample["all_mb"] = sum(resident(each) for each in processes) / MB
            sample["descriptors"] = sum(descriptors(each) for each in processes)
        return sample


def process_tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def resident(process: psutil.Process) -> int:
    """Return the bytes of a process without pages that it shares, because a sum over processes
    would count these several times.
    """
    try:
        usage = process.memory_info()
        return int(usage.rss - usage.shared)
    except psutil.Error:
        return 0


def descriptors(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except psutil.Error:
        return 0


def slope_per_minute(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the least-squares line, per minute."""
    return float(np.polyfit(np.asarray(at_s) / 60, values, 1)[0])
