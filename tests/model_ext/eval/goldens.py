"""Results of the published evaluation code on invented answers, as recorded in a file."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "fixtures" / "eval"
TOLERANCE = 1e-9


def cases(name: str) -> list[Any]:
    rows = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    assert rows
    return list(rows)


def as_list(truth: str | list[str]) -> list[str]:
    return [truth] if isinstance(truth, str) else truth
