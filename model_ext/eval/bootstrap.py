"""95% bootstrap intervals of a statistic of means over items."""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # Maps means [..., columns] to values [...].

SAMPLES = 1000
CHUNK = 50  # number of samples drawn at once; they need memory for CHUNK x items integers
LEVELS = (2.5, 97.5)


class Estimate(NamedTuple):
    """A statistic's value on all items, and its values on SAMPLES random resamples of the items."""

    value: float
    samples: Floats
    items: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval: percentiles of the resamples."""
        low, high = np.percentile(self.samples, LEVELS)
        return float(low), float(high)

    @staticmethod
    def total(estimates: "list[Estimate]") -> "Estimate":
        """The sum of independent estimates."""
        return Estimate(
            value=sum(estimate.value for estimate in estimates),
            samples=np.sum([estimate.samples for estimate in estimates], axis=0),
            items=sum(estimate.items for estimate in estimates),
        )


def bootstrap(rows: Floats, statistic: Statistic, name: str) -> Estimate:
    """Estimate a statistic of the columns' means. rows: [items, columns].

    `name` seeds the resamples: equal names give equal intervals, different names give independent
    resamples. Raises ValueError: when there are no rows.
    """
    items = len(rows)
    if items == 0:
        raise ValueError(f"{name}: there is no item to score")
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    chances = np.full(items, 1 / items)
    samples = [
        statistic(generator.multinomial(items, chances, size=CHUNK) @ rows / items)
        for _ in range(SAMPLES // CHUNK)
    ]
    return Estimate(float(statistic(rows.mean(axis=0))), np.concatenate(samples), items)
