"""Compare two rates on a machine whose speed varies: run both alternately several times, and take
the median ratio.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Ratio:
    """The measured code's rate divided by the baseline's, for each pair of runs.
    `target`: the ratio that the median should reach.
    """

    name: str
    measured: float  # median rate of the measured code
    baseline: float
    unit: str
    ratios: tuple[float, ...]
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        return self.target is None or self.median >= self.target


def compare_rates(
    name: str,
    measured: Callable[[], object],
    baseline: Callable[[], object],
    *,
    done: int,
    done_baseline: int | None = None,
    repeats: int,
    target: float | None = None,
) -> Ratio:
    """Compare the operations per second of `measured` with those of `baseline`.

    `done` and `done_baseline` (default: `done`): the number of operations in one call of `measured`
    and of `baseline`.
    """
    pairs = [
        (done / seconds(measured), (done_baseline or done) / seconds(baseline))
        for _ in range(WARM_UP + repeats)
    ][WARM_UP:]
    return Ratio(
        name,
        statistics.median(first for first, _ in pairs),
        statistics.median(second for _, second in pairs),
        "/s",
        tuple(first / second for first, second in pairs),
        target,
    )


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def as_table(ratios: Sequence[Ratio]) -> str:
    lines = [
        "| measured | bindserve | baseline | ratio (lowest - highest) | target | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for r in ratios:
        target = "" if r.target is None else f"{r.target:g}"
        spread = f"{r.median:.2f} ({min(r.ratios):.2f} - {max(r.ratios):.2f})"
        verdict = "" if r.target is None else "reached" if r.reached else "missed"
        lines.append(
            f"| {r.name} | {r.measured:.4g} {r.unit} | {r.baseline:.4g} {r.unit} "
            f"| {spread} | {target} | {verdict} |"
        )
    return "\n".join(lines)
