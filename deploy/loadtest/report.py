"""Write the report of a run: Markdown tables and plots, from the results in its folder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from deploy.loadtest import plots
from deploy.loadtest.memory import slope_per_minute
from deploy.loadtest.outcome import Outcome
from deploy.loadtest.results import Run

Row = list[str]


def write_report(folder: Path) -> Path:
    """Write report.md and its plots into the folder of a run. Returns the path of report.md."""
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
        f"{len(run.outcomes)} requests in an open loop (Poisson arrivals). An answer is good if "
        f"it is right, its first token arrives within {objective.first_s:g} s and its last within "
        f"{objective.total_s:g} s of the moment at which the request was due. Hostile requests "
        "count neither as offered nor as good. Rejected: status 429 or 503. The client sent 99% "
        f"of the requests at most {seconds_of([o.late_s for o in run.outcomes], 99)} s late."
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
        outcomes, rates = run.of(stage=stage), run.rates(stage)
        friendly = [outcome for outcome in outcomes if outcome.scenario != "hostile"]
        rows.append(
            [stage, f"{rates.offered:.2f}", f"{rates.goodput:.2f}"]
            + [share(friendly, lambda o: o.rejected), str(sum(o.failed for o in outcomes))]
            + [seconds_of([o.first_s for o in friendly if o.right], p) for p in (50, 95, 99)]
            + [seconds_of([o.total_s for o in friendly if o.right], p) for p in (50, 95)]
            + [seconds_of([o.total_s for o in friendly if o.rejected], 95)]
        )
    head = ["stage", "offered/s", "good/s", "rejected", "failed"]
    head += ["first p50", "p95", "p99", "total p50", "p95", "rejection p95"]
    return table(head, rows)


def overload_line(run: Run) -> str | None:
    """Compare the goodput under overload with the peak. Returns None if the profile has no overload
    stage.
    """
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
        outcomes = run.of(scenario=name)
        right = [outcome for outcome in outcomes if outcome.right]
        rows.append(
            [name, str(len(outcomes)), share(outcomes, lambda o: o.right)]
            + [share(outcomes, lambda o: o.rejected)]
            + [seconds_of([o.first_s for o in right], p) for p in (50, 95)]
            + [seconds_of([o.total_s for o in right], p) for p in (50, 95)]
        )
    head = ["scenario", "requests", "right", "rejected", "first p50", "p95", "total p50", "p95"]
    return table(head, rows)


def memory_table(run: Run) -> str | None:
    labels = {"api_mb": "API process, MB", "all_mb": "private memory of all processes, MB"}
    labels["descriptors"] = "open files and sockets"
    rows = []
    for key, name in labels.items():
        at_s, values = run.memory(key)
        if len(values) > 2:
            slope = slope_per_minute(at_s, values)
            rows.append([name, f"{values[0]:.1f}", f"{values[-1]:.1f}", f"{slope:+.3f}"])
    return (
        table(["memory after warm-up", "first", "last", "slope per minute"], rows) if rows else None
    )


def error_lines(run: Run) -> str:
    failed = [f"{o.scenario}, status {o.status}: {o.error}" for o in run.outcomes if o.failed]
    counted = sorted({each: failed.count(each) for each in failed}.items(), key=lambda e: -e[1])
    return "\n".join(f"- {count} x {each}" for each, count in counted[:10])


def share(outcomes: Sequence[Outcome], predicate: Callable[[Outcome], bool]) -> str:
    return f"{100 * sum(map(predicate, outcomes)) / max(len(outcomes), 1):.1f}%"


def seconds_of(values: Sequence[float], percentile: float) -> str:
    return f"{np.percentile(values, percentile):.3f}" if values else "-"


def table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
