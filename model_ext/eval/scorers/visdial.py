"""Scores of Visual Dialog: LVLM-eHub's reciprocal rank, and the rank by log-probability."""

from collections.abc import Sequence

from model_ext.eval.scorers.containment import contains_word
from model_ext.eval.scorers.normalise import normalise


def visdial_reciprocal_rank(answer: str, candidates: Sequence[str]) -> float:
    """Return 1 / (1 + index) of the first candidate that the answer contains, else 0.

    This is LVLM-eHub's rule, which ignores which candidate is correct.
    """
    text = normalise(answer)
    for index, candidate in enumerate(candidates):
        if contains_word(text, normalise(candidate)):
            return 1 / (1 + index)
    return 0.0


def visdial_true_rank(log_probabilities: Sequence[float], truth_index: int) -> float:
    """Return 1 / (rank of the right candidate), if candidates are sorted by mean log-probability.
    In a tie, the right candidate is the last.

    Raises ValueError: when `truth_index` is not an index of `log_probabilities`.
    """
    if not 0 <= truth_index < len(log_probabilities):
        raise ValueError(f"truth_index {truth_index} is not below {len(log_probabilities)}")
    truth = log_probabilities[truth_index]
    return 1 / sum(value >= truth for value in log_probabilities)
