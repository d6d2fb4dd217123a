"""Compare two runs of the same profile, e.g. before and after a change of the server."""

from pathlib import Path

import numpy as np

from deploy.loadtest import plots
from deploy.loadtest.outcome import Outcome
from deploy.loadtest.report import table
from deploy.loadtest.results import Run

MAX_NOISE = 0.1  # relative difference that two runs of the same server can have on a shared machine


def compare(before: Path, after: Path, out: Path) -> str:
    """Return a Markdown table and draw `compared.png` into the folder `out`.

    Raises ValueError: when the runs differ in profile, mix or objective.
    """
    old, new = Run(before), Run(after)
    for key in ("profile", "mix", "first_s", "total_s"):
        if old.about[key] != new.about[key]:
            raise ValueError(
                f"the runs differ in {key}: {old.about[key]}, {new.about[key]}; "
                "compare runs with equal options"
            )
    out.mkdir(parents=True, exist_ok=True)
    plots.two_goodputs({"before": old, "after": new}, out / "compared.png")
    peaks = [max(run.rates(stage).goodput for stage in run.stages) for run in (old, new)]
    rows = [line("best goodput, requests/s", *peaks, more_is_better=True)]
    for scenario in sorted({*old.scenarios} & {*new.scenarios} - {"hostile"}):
        for percentile in (50, 95):
            values = [first_token(run.of(scenario=scenario), percentile) for run in (old, new)]
            rows.append(line(f"{scenario}: first token p{percentile}, s", *values))
    return table(["", "before", "after", "after/before", ""], rows) + "\n\n![](compared.png)\n"


def first_token(outcomes: list[Outcome], percentile: float) -> float:
    values = [outcome.first_s for outcome in outcomes if outcome.right]
    return float(np.percentile(values, percentile)) if values else float("nan")


def line(name: str, old: float, new: float, *, more_is_better: bool = False) -> list[str]:
    ratio = new / old if old else float("nan")
    verdict = ""
    if abs(ratio - 1) > MAX_NOISE:
        verdict = "better" if (ratio > 1) == more_is_better else "worse"
    return [name, f"{old:.3f}", f"{new:.3f}", f"{ratio:.2f}", verdict]
