"""Scores of key information extraction over a whole data set, in per cent."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class KieCounts(NamedTuple):
    matched: int
    answered: int
    expected: int

    @property
    def precision(self) -> float:
        return 100 * self.matched / self.answered if self.answered else 0.0

    @property
    def recall(self) -> float:
        return 100 * self.matched / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """F1 in per cent. 0 if there is no answer, no truth, or no match, where LVLM-eHub divides
        by zero.
        """
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def kie_words(pairs: Iterable[tuple[str, str]]) -> KieCounts:
    """Count the words of (answer, truth) pairs. As in LVLM-eHub, words are separated by white space
    and case matters.
    """
    counts = [word_counts(answer, truth) for answer, truth in pairs]
    return KieCounts(*(sum(column) for column in zip(*counts, strict=True))) if counts else ZERO


def kie_entities(pairs: Iterable[tuple[str, str]]) -> KieCounts:
    """Count the (answer, truth) pairs whose texts are equal, for the strict score.

    Runs of white space count as one space, and case matters. F1 = 200 x (equal, non-empty pairs) /
    (non-empty answers + non-empty truths).
    """
    matched = answered = expected = 0
    for answer, truth in pairs:
        text, entity = " ".join(answer.split()), " ".join(truth.split())
        matched += bool(entity) and text == entity
        answered += bool(text)
        expected += bool(entity)
    return KieCounts(matched, answered, expected)


ZERO = KieCounts(0, 0, 0)


def word_counts(answer: str, truth: str) -> KieCounts:
    words, expected = Counter(answer.split()), Counter(truth.split())
    return KieCounts((words & expected).total(), words.total(), expected.total())
