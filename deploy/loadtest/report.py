"""Report: one folder of results to Markdown and plots. Knows outcomes, not how they came about."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.loadtest import plots
from deploy.loadtest.load import Held, held
from deploy.loadtest.memory import slope_per_minute
from deploy.loadtest.outcome import Objective, Outcome, read_outcomes

Row = list[str]
WARM_UP = "warm-up"


class Run:
    """What one folder holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / "run.json").read_text())
        self.outcomes = read_outcomes(folder / "outcomes.jsonl")
        self.objective = Objective(self.about["first_s"], self.about["total_s"])
        self.stages = [name for name in self.about["stages"] if self.of(stage=name)]
        self.scenarios = sorted({outcome.scenario for outcome in self.outcomes})

    def of(self, **wanted: str) -> list[Outcome]:
        return [o for o in self.outcomes if all(getattr(o, k) == v for k, v in wanted.items())]

    def rates(self, stage: str) -> Held:
        return held(self.of(stage=stage), self.about["stages"][stage], self.objective)

    def memory(self, key: str, *, after: str = WARM_UP) -> tuple[list[float], list[float]]:
        """Times and values, without what the warm-up took."""
        warm = max((o.due_s for o in self.of(stage=after)), default=0.0)
        kept = [s for s in self.about["memory"] if s[key] is not None and s["at_s"] >= warm]
        return [s["at_s"] for s in kept], [s[key] for s in kept]


def write_report(folder: Path) -> Path:
    run = Run(folder)
    plots.goodput(run, folder / "goodput.png")
    plots.latency(run, folder / "latency.png")
    images = ["goodput.png", "latency.png"]
    if len(run.memory("api_mb")[0]) > 2:
        plots.memory(run, folder / "memory.png")
        images.append("memory.png")
    path = folder / "report.md"
    path.write_text("\n\n".join([*sections(run), *(f"![]({name})" for name in images)]) + "\n")
    return path


def sections(run: Run) -> Iterable[str]:
    about, objective = run.about, run.objective
    yield f"# Load test: {about['profile']}, mix {about['mix']}"
    yield (
        f"{len(run.outcomes)} requests in an open loop (Poisson arrivals). Good: a right answer "
        f"whose first token comes within {objective.first_s:g} s and the last within "
        f"{objective.total_s:g} s of the moment at which the request was due. Hostile requests "
        "are neither offered nor good; refused is 429 or 503. The client itself was late by "
        f"{seconds_of([o.late_s for o in run.outcomes], 99)} s at most for 99% of the requests."
    )
    yield stage_table(run)
    if (line := overload_line(run)) is not None:
        yield line
    yield scenario_table(run)
    if (table := memory_table(run)) is not None:
        yield table
    if errors := error_lines(run):
        yield "Errors:\n\n" + errors


def stage_table(run: Run) -> str:
    rows = []
    for stage in run.stages:
        all_, rates = run.of(stage=stage), run.rates(stage)
        mine = [outcome for outcome in all_ if outcome.scenario != "hostile"]
        rows.append(
            [stage, f"{rates.offered:.2f}", f"{rates.goodput:.2f}"]
            + [share(mine, lambda o: o.shed), str(sum(o.failed for o in all_))]
            + [seconds_of([o.first_s for o in mine if o.right], p) for p in (50, 95, 99)]
            + [seconds_of([o.total_s for o in mine if o.right], p) for p in (50, 95)]
            + [seconds_of([o.total_s for o in mine if o.shed], 95)]
        )
    head = ["stage", "offered/s", "good/s", "refused", "failed"]
    head += ["first p50", "p95", "p99", "total p50", "p95", "refusal p95"]
    return table(head, rows)


def overload_line(run: Run) -> str | None:
    """Goodput beyond the peak, compared with the peak."""
    over = [stage for stage in run.stages if stage.endswith("overload")]
    if not over:
        return None
    peak = max(run.rates(stage).goodput for stage in run.stages if stage.endswith("/s"))
    beyond = run.rates(over[0]).goodput
    return (
        f"Goodput at {over[0]}: {beyond:.2f}/s, **{beyond / peak:.2f}** of the peak ({peak:.2f}/s)."
    )


def scenario_table(run: Run) -> str:
    rows = []
    for name in run.scenarios:
        mine = run.of(scenario=name)
        right = [outcome for outcome in mine if outcome.right]
        rows.append(
            [name, str(len(mine)), share(mine, lambda o: o.right), share(mine, lambda o: o.shed)]
            + [seconds_of([o.first_s for o in right], p) for p in (50, 95)]
            + [seconds_of([o.total_s for o in right], p) for p in (50, 95)]
        )
    head = ["scenario", "requests", "right", "refused", "first p50", "p95", "total p50", "p95"]
    return table(head, rows)


def memory_table(run: Run) -> str | None:
    named = {"api_mb": "API process, MB", "all_mb": "all processes' own pages, MB"}
    named["descriptors"] = "open files and sockets"
    rows = []
    for key, name in named.items():
        at_s, values = run.memory(key)
        if len(values) > 2:
            slope = slope_per_minute(at_s, values)
            rows.append([name, f"{values[0]:.1f}", f"{values[-1]:.1f}", f"{slope:+.3f}"])
    return (
        table(["memory after warm-up", "first", "last", "slope a minute"], rows) if rows else None
    )


def error_lines(run: Run) -> str:
    failed = [f"{o.scenario}, status {o.status}: {o.error}" for o in run.outcomes if o.failed]
    counted = sorted({each: failed.count(each) for each in failed}.items(), key=lambda e: -e[1])
    return "\n".join(f"- {count} x {each}" for each, count in counted[:10])


def share(outcomes: Sequence[Outcome], which: Callable[[Outcome], bool]) -> str:
    return f"{100 * sum(map(which, outcomes)) / max(len(outcomes), 1):.1f}%"


def seconds_of(values: Sequence[float], percentile: float) -> str:
    return f"{np.percentile(values, percentile):.3f}" if values else "-"


def table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
