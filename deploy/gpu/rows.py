"""Write each result of a step as a line of JSON immediately after the measurement, so that the
results are kept if the step is killed at its time limit.
"""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Size = Literal["tiny", "full"]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: str  # The measured value with its unit.
    goal: str = ""
    reached: bool | None = None  # None if the row has no goal.
    number: float | None = None  # The measured value without its unit.

    @property
    def verdict(self) -> str:
        return {None: "", True: "reached", False: "**missed**"}[self.reached]


class Rows:
    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, row: Row) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(f"{row.name}: {row.value} {row.verdict}", flush=True)

    def check(self, name: str, reached: bool, detail: str = "") -> None:
        """Add the result of a check that passes or fails."""
        self.add(Row(name, detail or ("yes" if reached else "no"), "yes", reached))

    @contextmanager
    def checking(self, name: str) -> Iterator[None]:
        """If the `with` block raises an error, record a failed check, and continue after the
        block.
        """
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.check(name, False, f"no: {type(error).__name__}: {error}"[:200])

    def number(
        self,
        name: str,
        number: float,
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        detail: str = "",
    ) -> None:
        """Add a measured number, with a lower or an upper bound as its goal."""
        goal, reached = "", None
        if at_least is not None:
            goal, reached = f"at least {at_least:,g}", number >= at_least
        if at_most is not None:
            goal, reached = f"at most {at_most:,g}", number <= at_most
        self.add(
            Row(
                name,
                " ".join(
                    filter(
                        None,
                        [f"{number:,.0f}" if number >= 1000 else f"{number:.4g}", unit, detail],
                    )
                ),
                goal,
                reached,
                number,
            )
        )


def read_rows(path: Path) -> list[Row]:
    """Return the complete lines of the file; an empty list if there is no file."""
    if not path.exists():
        return []
    complete = path.read_text().rpartition("\n")[0]
    return [Row(**json.loads(line)) for line in complete.splitlines()]
