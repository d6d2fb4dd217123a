"""Write the results of all steps to a JSON file and to a table in Markdown.

A later run with other steps adds its results to both files.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.gpu.rows import Row

RESULTS, TABLE = "results.json", "table.md"


@dataclass(frozen=True, slots=True)
class StepResult:
    name: str
    status: str  # "finished", or the reason of the failure
    seconds: float
    machine: str
    commit: str
    rows: tuple[Row, ...]
    log_tail: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "finished" and not self.missed and bool(self.rows)

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.reached is False]


def save(
    folder: Path, results: Iterable[StepResult], order: Sequence[str] = ()
) -> dict[str, StepResult]:
    """Write the JSON file and the table.

    If `results` lacks a step, the result of an earlier run stays in both files.
    """
    newer = load(folder) | {result.name: result for result in results}
    names = [*(name for name in order if name in newer), *(newer.keys() - set(order))]
    merged = {name: newer[name] for name in names}
    document = {name: asdict(result) for name, result in merged.items()}
    replace(folder / RESULTS, json.dumps(document, indent=1) + "\n")
    replace(folder / TABLE, table(merged.values()))
    return merged


def replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def load(folder: Path) -> dict[str, StepResult]:
    path = folder / RESULTS
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {
        name: StepResult(**{**result, "rows": tuple(Row(**row) for row in result["rows"])})
        for name, result in document.items()
    }


def table(results: Iterable[StepResult]) -> str:
    lines = ["| step | measured | value | goal | |", "|---|---|---|---|---|"]
    for result in results:
        cells = [result.name, f"{result.machine}, {result.commit}", f"{result.seconds:.0f} s"]
        cells += ["", "" if result.status == "finished" else f"**{result.status}**"]
        lines.append(row_of(cells))
        lines += [row_of(["", r.name, r.value, r.goal, r.verdict]) for r in result.rows]
    return "\n".join(lines) + "\n"


def row_of(cells: Iterable[str]) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"
