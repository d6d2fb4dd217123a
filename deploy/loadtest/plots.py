"""Plot one run or two runs: goodput against the offered rate; latency and memory against time."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.loadtest.results import Run

SIZE = (7, 3.2)


def goodput(run: Run, path: Path) -> None:
    figure, axes = plt.subplots(figsize=SIZE)
    draw_goodput(axes, run, "good answers")
    save(figure, axes, path, "offered, requests/s", "good, requests/s")


def draw_goodput(axes: Axes, run: Run, label: str) -> None:
    points = []
    for stage in run.stages:
        rates = run.rates(stage)
        points.append((rates.offered, rates.goodput))
    points.sort()
    axes.plot(*zip(*points, strict=True), "o-", label=label)
    top = max(good for _, good in points) * 1.05
    axes.plot([0, top], [0, top], ":", color="grey")


def latency(run: Run, path: Path) -> None:
    """Plot the duration of each request against the time at which it was due. Each kind of outcome
    has its own color.
    """
    figure, axes = plt.subplots(figsize=SIZE)
    for name, kept in (
        ("right", [o for o in run.outcomes if o.right and o.scenario != "hostile"]),
        ("rejected", [o for o in run.outcomes if o.rejected]),
        ("failed", [o for o in run.outcomes if o.failed]),
    ):
        if kept:
            axes.plot([o.due_s for o in kept], [o.total_s for o in kept], ".", ms=3, label=name)
    for stage in run.stages:
        start = min(o.due_s for o in run.of(stage=stage))
        axes.axvline(start, color="lightgrey", lw=0.7, zorder=0)
        axes.text(start, 1.01, stage, rotation=60, fontsize=6, transform=axes.get_xaxis_transform())
    axes.axhline(run.objective.total_s, color="grey", ls=":")
    axes.set_yscale("log")
    save(figure, axes, path, "seconds since the start", "seconds to the last token")


def memory(run: Run, path: Path) -> None:
    figure, axes = plt.subplots(figsize=SIZE)
    for key, label in (("api_mb", "API process"), ("all_mb", "private memory of all processes")):
        at_s, values = run.memory(key, after="")
        if values:
            axes.plot([each / 60 for each in at_s], values, label=label)
    axes.set_ylim(bottom=0)
    save(figure, axes, path, "minutes", "MB")


def two_goodputs(runs: dict[str, Run], path: Path) -> None:
    figure, axes = plt.subplots(figsize=SIZE)
    for name, run in runs.items():
        draw_goodput(axes, run, name)
    save(figure, axes, path, "offered, requests/s", "good, requests/s")


def save(figure: Figure, axes: Axes, path: Path, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
