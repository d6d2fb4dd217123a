"""The hallucination rate: the share of an answer's nouns that a detector does not find in the
picture. A detector also makes errors. Its false-found rate is the share of absent nouns (of answers
about other pictures) that it finds. It estimates the share of invented nouns that the hallucination
rate misses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_ext.eval.bootstrap import Estimate, Floats, bootstrap
from model_ext.eval.render import Table

ABSENT = 8  # maximum number of absent nouns that are searched in one picture


@dataclass(frozen=True, slots=True)
class Described:
    """An answer about a picture: its nouns, and for each noun whether the detector found it."""

    picture: str
    nouns: tuple[str, ...]
    found_flags: tuple[bool, ...]


def absent_nouns(answers: Sequence[Described], index: int) -> list[str]:
    """Return nouns of the other answers that are not in the answer `index`, in lower case."""
    own = {noun.lower() for noun in answers[index].nouns}
    absent: list[str] = []
    for step in range(1, len(answers)):
        for noun in answers[(index + step) % len(answers)].nouns:
            if noun.lower() not in own and noun.lower() not in absent:
                absent.append(noun.lower())
        if len(absent) >= ABSENT:
            break
    return absent[:ABSENT]


def share(means: Floats) -> Floats:
    """Return 100 times the first column of `means`, divided by the second; 0 where the second is
    0.
    """
    total = means[..., 1]
    return np.divide(100 * means[..., 0], total, out=np.zeros_like(total), where=total > 0)


def hallucination_rate(answers: Sequence[Described], name: str) -> Estimate:
    """The share of nouns that were not found, in per cent. Raises ValueError: without answers."""
    rows = [[len(each.nouns) - sum(each.found_flags), len(each.nouns)] for each in answers]
    return bootstrap(np.array(rows, np.float64), share, f"{name}/hallucination")


def false_found_rate(counts: Sequence[tuple[int, int]], name: str) -> Estimate:
    """The share of absent nouns that were found, in per cent. `counts`: for each picture, the
    numbers of absent nouns that were found and that were searched.
    """
    return bootstrap(np.array(counts, np.float64), share, f"{name}/false found")


def hallucination_table(
    rows: Sequence[tuple[str, Sequence[Described], Sequence[tuple[int, int]]]],
) -> Table:
    """Make the table of several runs. `rows`: for each run its name, its answers, and the counts of
    absent nouns.
    """
    lines = []
    for name, answers, counts in rows:
        rate, false = hallucination_rate(answers, name), false_found_rate(counts, name)
        lines.append(
            [
                name,
                str(len(answers)),
                str(sum(len(each.nouns) for each in answers)),
                *cells(rate),
                *cells(false),
            ]
        )
    return Table(
        title="Hallucinations",
        header=["Run", "answers", "nouns", "not found %", "95%", "false found %", "95%"],
        rows=lines,
        notes=[
            "Not found: nouns of the answer without a box in the picture.",
            "False found: nouns of other answers that the detector finds in the picture.",
        ],
        texts=1,
    )


def cells(estimate: Estimate) -> list[str]:
    low, high = estimate.interval
    return [f"{estimate.value:.1f}", f"{low:.1f} to {high:.1f}"]
