"""Outcome: the result of one request, stored as one line of outcomes.jsonl.

Objective: the maximum times that an answer may take.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path

REJECTIONS = frozenset({429, 503})  # HTTP statuses with which a full server rejects requests


@dataclass(frozen=True, slots=True)
class Objective:
    """The maximum seconds until the first and the last token of a good answer.

    The time starts when the request is due, even if the load test sends it later.
    """

    first_s: float = 1.0  # Time to the first token.
    total_s: float = 5.0  # Time to the last token.


@dataclass(frozen=True, slots=True)
class Outcome:
    stage: str  # The stage of the profile in which the request was sent.
    scenario: str
    due_s: float  # Time since the start of the test at which the request was due.
    status: int  # HTTP status, or 0 if there was no answer.
    right: bool  # Whether the status is the expected one and, for status 200, the body is complete.
    first_s: float  # Time to the first token, or to the end of an answer without tokens.
    total_s: float
    tokens: int = 0
    late_s: float = 0.0  # Seconds after `due_s` when the client sent the request; close to 0.
    error: str = ""

    def good(self, objective: Objective) -> bool:
        return (
            self.right and self.first_s <= objective.first_s and self.total_s <= objective.total_s
        )

    @property
    def rejected(self) -> bool:
        return self.status in REJECTIONS

    @property
    def failed(self) -> bool:
        return not (self.right or self.rejected)


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    path.write_text("".join(dumps(asdict(outcome)) + "\n" for outcome in outcomes))


def read_outcomes(path: Path) -> list[Outcome]:
    return [Outcome(**loads(line)) for line in path.read_text().splitlines()]
