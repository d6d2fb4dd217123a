"""MME's score: yes/no questions in pairs, two per picture."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from model_ext.eval.scorers.normalise import without_punctuation

Label = Literal["yes", "no", "other"]
PREFIX = 4  # number of characters of the answer that the official tool reads


class MmeScore(NamedTuple):
    """`acc`: the share of correctly answered questions. `acc_plus`: the share of pictures with two
    correct answers.
    """

    acc: float
    acc_plus: float

    @property
    def score(self) -> float:
        return 100 * (self.acc + self.acc_plus)


def mme_label(answer: str) -> Label:
    """Return "yes" if the first 4 characters of the answer in lower case contain "yes", else "no"
    if they contain "no", else "other". MME's official tool does the same.
    """
    prefix = re.sub(r"[\t\r\n]", " ", answer).lower()[:PREFIX]
    if "yes" in prefix:
        return "yes"
    return "no" if "no" in prefix else "other"


def mme_label_strict(answer: str) -> Label:
    """Return "yes" or "no" if the answer contains exactly one of these two words, else "other"."""
    words = set(without_punctuation(answer).lower().split()) & {"yes", "no"}
    if words == {"yes"}:
        return "yes"
    return "no" if words == {"no"} else "other"


def mme_score(pairs: Sequence[tuple[bool, bool]]) -> MmeScore:
    """Compute the score of a subtask.

    `pairs`: for each picture, whether each of its two answers is right.

    Raises ValueError: when there are no pairs.
    """
    if not pairs:
        raise ValueError("MME's score needs at least one picture")
    right = sum(first + second for first, second in pairs)
    both = sum(first and second for first, second in pairs)
    return MmeScore(right / (2 * len(pairs)), both / len(pairs))
