"""Measure A and B in interleaved pairs (A B, B A, A B, ...) in one run, and compute their ratio.
A and B can be any functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the pairs' ratios A/B, with its 95% bootstrap interval."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.3f}  [{self.low:.3f}, {self.high:.3f}]  ({self.pairs} pairs)"


def measure(a: Callable[[], A], b: Callable[[], B], pairs: int) -> list[tuple[A, B]]:
    """Call both functions `pairs` times. The order alternates, so that a slow change of the
    machine's speed affects both equally.
    """
    measured = []
    for i in range(pairs):
        if i % 2:
            second = b()
            measured.append((a(), second))
        else:
            first = a()
            measured.append((first, b()))
    return measured


def ratio(measured: Sequence[tuple[float, float]], seed: int = 0) -> Ratio:
    ratios = np.array([a / b for a, b in measured])
    rng = np.random.default_rng(seed)
    resampled = rng.choice(ratios, size=(10_000, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
