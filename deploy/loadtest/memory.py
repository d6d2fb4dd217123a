"""Memory of the server while it is loaded: what it says of itself and, on this machine, all of its
processes together."""

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
    api_mb: float | None  # the API process, by its own /metrics
    all_mb: float | None  # it and all that it started: engine, encoders, decoders
    processes: int | None
    descriptors: int | None  # open files and sockets, of all of them


class Sampler:
    def __init__(self, metrics: Callable[[], str], pid: int | None) -> None:
        """`pid`: the server's first process, if it runs on this machine."""
        self.samples: list[Sample] = []
        self._metrics = metrics
        self._pid = pid

    def watch(self, started: float, every_s: float, sleep: Callable[[float], None]) -> None:
        """Until somebody kills it."""
        while True:
            self.samples.append(self.sample(time.perf_counter() - started))
            sleep(every_s)

    def sample(self, at_s: float) -> Sample:
        found = RESIDENT.search(self._metrics())
        sample = Sample(at_s=at_s, api_mb=None, all_mb=None, processes=None, descriptors=None)
        if found:
            sample["api_mb"] = float(found[1]) / MB
        if self._pid is not None:
            family = tree(self._pid)
            sample["processes"] = len(family)
            sample["all_mb"] = sum(resident(each) for each in family) / MB
            sample["descriptors"] = sum(descriptors(each) for each in family)
        return sample


def tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def resident(process: psutil.Process) -> int:
    """Its own pages: what processes share would be counted once for each of them."""
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
    """Of the least-squares line."""
    return float(np.polyfit(np.asarray(at_s) / 60, values, 1)[0])
