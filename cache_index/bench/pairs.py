"""Ratios that survive a noisy machine: the two sides in turn, several times, and the median."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better ours is, pair by pair; `target` is what it must reach."""

    name: str
    ours: float  # median
    theirs: float
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
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    done: int,
    done_theirs: int | None = None,
    repeats: int,
    target: float | None = None,
) -> Ratio:
    """Both do something `done` times when called (theirs `done_theirs` times)."""
    pairs = [
        (done / seconds(ours), (done_theirs or done) / seconds(theirs))
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
        "| measured | ours | theirs | ratio (lowest - highest) | target | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for r in ratios:
        target = "" if r.target is None else f"{r.target:g}"
        spread = f"{r.median:.2f} ({min(r.ratios):.2f} - {max(r.ratios):.2f})"
        verdict = "" if r.target is None else "reached" if r.reached else "missed"
        lines.append(
            f"| {r.name} | {r.ours:.4g} {r.unit} | {r.theirs:.4g} {r.unit} "
            f"| {spread} | {target} | {verdict} |"
        )
    return "\n".join(lines)
