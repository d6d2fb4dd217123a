"""Run: the results of one load test, read from the folder that it wrote."""

import json
from pathlib import Path
from typing import Any

from deploy.loadtest.load import Rates, rates_of
from deploy.loadtest.outcome import Objective, Outcome, read_outcomes

WARM_UP = "warm-up"


class Run:
    """The options, outcomes and memory samples of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / "run.json").read_text())
        self.outcomes = read_outcomes(folder / "outcomes.jsonl")
        self.objective = Objective(self.about["first_s"], self.about["total_s"])
        self.stages = [name for name in self.about["stages"] if self.of(stage=name)]
        self.scenarios = sorted({outcome.scenario for outcome in self.outcomes})

    def of(self, **values: str) -> list[Outcome]:
        """Return the outcomes whose fields have these values."""
        return [o for o in self.outcomes if all(getattr(o, k) == v for k, v in values.items())]

    def rates(self, stage: str) -> Rates:
        return rates_of(self.of(stage=stage), self.about["stages"][stage], self.objective)

    def memory(self, key: str, *, after: str = WARM_UP) -> tuple[list[float], list[float]]:
        """Return the times (s) and values of the memory samples after the stage `after`."""
        start = max((o.due_s for o in self.of(stage=after)), default=0.0)
        kept = [s for s in self.about["memory"] if s[key] is not None and s["at_s"] >= start]
        return [s["at_s"] for s in kept], [s[key] for s in kept]
