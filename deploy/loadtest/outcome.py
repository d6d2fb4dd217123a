"""Outcome: what became of one request, and whether it met the objective. One line of results."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path

SHED = frozenset({429, 503})  # refused because the server is full: an answer, not an error


@dataclass(frozen=True, slots=True)
class Objective:
    """What a good answer is: seconds from when it was due to be sent (not from when a slow client
    managed to), so that nothing hides behind a queue."""

    first_s: float = 1.0  # to the first token
    total_s: float = 5.0  # to the last


@dataclass(frozen=True, slots=True)
class Outcome:
    stage: str  # of the profile
    scenario: str
    due_s: float  # since the test began
    status: int  # 0: no answer
    right: bool  # a status that this request should get, and a complete body
    first_s: float  # to the first token, or to the answer if it has none
    total_s: float
    tokens: int = 0
    late_s: float = 0.0  # by which the client missed the moment: it should be next to nothing
    error: str = ""

    def good(self, objective: Objective) -> bool:
        return (
            self.right and self.first_s <= objective.first_s and self.total_s <= objective.total_s
        )

    @property
    def shed(self) -> bool:
        return self.status in SHED

    @property
    def failed(self) -> bool:
        return not (self.right or self.shed)


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    path.write_text("".join(dumps(asdict(outcome)) + "\n" for outcome in outcomes))


def read_outcomes(path: Path) -> list[Outcome]:
    return [Outcome(**loads(line)) for line in path.read_text().splitlines()]
