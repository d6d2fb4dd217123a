"""Scores of question answering.

LVLM-eHub's score: whether the answer contains a correct answer. Strict scores: exact match, or the
consensus of annotators.
"""

from collections import Counter
from collections.abc import Sequence

from model_ext.eval.scorers.containment import contains_word
from model_ext.eval.scorers.normalise import normalise

AGREEING = 3  # number of other annotators who must agree for a full score


def vqa_containment(answer: str, truths: Sequence[str]) -> float:
    """1 if the normalised answer contains any normalised truth; 0 without truths."""
    text = normalise(answer)
    return float(any(contains_word(text, normalise(truth)) for truth in truths))


def vqa_every(answer: str, truths: Sequence[str]) -> float:
    """1 if the normalised answer contains each of the truths as whole words; 0 without truths."""
    text = normalise(answer)
    return float(bool(truths) and all(contains_word(text, normalise(t)) for t in truths))


def vqa_exact(answer: str, truths: Sequence[str]) -> float:
    """1 if the normalised answer equals any normalised truth; 0 without truths."""
    text = normalise(answer)
    return float(any(text == normalise(truth) for truth in truths))


def vqa_consensus(answer: str, truths: Sequence[str]) -> float | None:
    """The official VQA score.

    The truths are the answers of annotators. The score is a mean over the truths: truth i adds
    min(1, n / 3), where n of the other truths equal the answer. Returns None without truths. The
    official data sets have 10 truths per question.
    """
    if not truths:
        return None
    equal = Counter(map(normalise, truths))[normalise(answer)]
    others_if_equal = min(1.0, (equal - 1) / AGREEING)
    others = min(1.0, equal / AGREEING)
    return (equal * others_if_equal + (len(truths) - equal) * others) / len(truths)
