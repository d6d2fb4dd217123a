"""Metrics by name: the numbers that each item contributes, and the figure computed from their
means.

A metric's rows have a fixed number of columns, so the same bootstrap code works for all metrics.
The unit of a row is an item; for MME it is a picture with its two questions.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from model_ext.eval.bootstrap import Estimate, Floats, Statistic, bootstrap
from model_ext.eval.item import Item
from model_ext.eval.scorers.anls import anls
from model_ext.eval.scorers.cider import cider_ptb, cider_raw
from model_ext.eval.scorers.containment import contains_any
from model_ext.eval.scorers.kie import kie_entities, kie_words
from model_ext.eval.scorers.mme import Label, mme_label, mme_label_strict
from model_ext.eval.scorers.ocr import ocr_containment, ocr_letters
from model_ext.eval.scorers.pope import pope_label
from model_ext.eval.scorers.tools import tool_false_call, tool_score, tool_strict
from model_ext.eval.scorers.visdial import visdial_reciprocal_rank
from model_ext.eval.scorers.vqa import vqa_consensus, vqa_containment, vqa_every, vqa_exact
from model_ext.eval.tasks.task import Metric

ANNOTATORS = 10  # Number of annotators in each data set with the consensus score.
Row = Sequence[float] | None  # None: the item has no score.
Rows = Callable[[Sequence[Item], Sequence[str]], Sequence[Row]]


class MetricRule(NamedTuple):
    """How a metric computes its figure. `rows`: one row of numbers per item. `statistic`: the
    figure from the means of the rows' columns. `right`: whether one answer is right; None if
    `statistic` of a single question's row gives the question's score.
    """

    rows: Rows
    statistic: Statistic
    right: Callable[[Item, str], bool] | None = None


def estimate(metric: Metric, items: Sequence[Item], answers: Sequence[str], name: str) -> Estimate:
    """Compute the figure that the paper's tables print: in per cent, or MME's score up to 200.

    Raises ValueError: when an item does not fit the metric, or no item can be scored.
    """
    rule = METRICS[metric]
    rows = [row for row in rule.rows(items, answers) if row is not None]
    return bootstrap(np.array(rows, dtype=np.float64), rule.statistic, f"{name}/{metric}")


def question_scores(
    metric: Metric, items: Sequence[Item], answers: Sequence[str]
) -> list[float | None]:
    """The score of each question: 100 for a right answer, None if it cannot be scored."""
    rule = METRICS[metric]
    if rule.right is not None:
        right = zip(items, answers, strict=True)
        return [100 * float(rule.right(item, answer)) for item, answer in right]
    rows = rule.rows(items, answers)
    return [None if row is None else float(rule.statistic(np.array(row))) for row in rows]


def per_item(score: Callable[[Item, str], float | None]) -> Rows:
    """Make a function that returns one row per item, with the item's score as the only column.

    If an item's score is None, its row is None.
    """

    def rows(items: Sequence[Item], answers: Sequence[str]) -> list[Row]:
        scores = [score(item, answer) for item, answer in zip(items, answers, strict=True)]
        return [None if value is None else [value] for value in scores]

    return rows


def first_truth(item: Item) -> str:
    if not item.answers:
        raise ValueError(f"item {item.id!r} has no answer to compare with")
    return item.answers[0]


def consensus(item: Item, answer: str) -> float | None:
    if len(item.answers) != ANNOTATORS:
        count = len(item.answers)
        raise ValueError(f"item {item.id!r}: the consensus needs {ANNOTATORS} answers, not {count}")
    return vqa_consensus(answer, item.answers)


def visdial_exact(item: Item, answer: str) -> float:
    candidates, index = item.candidates or [], item.truth_index
    if index is None or index >= len(candidates):
        raise ValueError(f"item {item.id!r} needs candidates and truth_index")
    return vqa_exact(answer, [candidates[index]])


def kie_word_rows(items: Sequence[Item], answers: Sequence[str]) -> list[list[float]]:
    pairs = zip(answers, map(first_truth, items), strict=True)
    return [[float(count) for count in kie_words([pair])] for pair in pairs]


def kie_entity_rows(items: Sequence[Item], answers: Sequence[str]) -> list[list[float]]:
    pairs = zip(answers, map(first_truth, items), strict=True)
    return [[float(count) for count in kie_entities([pair])] for pair in pairs]


def pope_rows(items: Sequence[Item], answers: Sequence[str]) -> list[list[float]]:
    """For each item, the columns of F1: whether "yes" was both answered and expected, whether it
    was answered, and whether it was expected.
    """
    rows = []
    for item, answer in zip(items, answers, strict=True):
        answered, expected = pope_label(answer) == "yes", first_truth(item).lower() == "yes"
        rows.append([float(answered and expected), float(answered), float(expected)])
    return rows


def caption_rows(
    score: Callable[[Sequence[str], Sequence[Sequence[str]]], list[float]],
) -> Rows:
    def rows(items: Sequence[Item], answers: Sequence[str]) -> list[list[float]]:
        return [[value] for value in score(answers, [item.answers for item in items])]

    return rows


def mme_rule(read: Callable[[str], Label]) -> MetricRule:
    def right(item: Item, answer: str) -> bool:
        return read(answer) == first_truth(item).lower()

    return MetricRule(mme_rows(right), acc_and_acc_plus, right)


def mme_rows(right: Callable[[Item, str], bool]) -> Rows:
    """Make one row per picture: the share of its correct answers, and whether both are correct."""

    def rows(items: Sequence[Item], answers: Sequence[str]) -> list[list[float]]:
        pictures: dict[str, list[bool]] = {}
        for item, answer in zip(items, answers, strict=True):
            if item.pair is None:
                raise ValueError(f"item {item.id!r} needs `pair`, the picture of the question")
            pictures.setdefault(item.pair, []).append(right(item, answer))
        for pair, right_answers in pictures.items():
            if len(right_answers) != 2:
                raise ValueError(f"picture {pair!r} has {len(right_answers)} questions, not 2")
        return [[sum(both) / 2, float(all(both))] for both in pictures.values()]

    return rows


def tool_rule(name: str) -> MetricRule:
    """Make the rule of one of GPT4Tools' five scores. A reply has no score if the value is nan."""

    def score(item: Item, answer: str) -> float | None:
        value: float = getattr(tool_score(answer, first_truth(item)), name)
        return None if math.isnan(value) else value

    return MetricRule(per_item(score), percent)


def percent(means: Floats) -> Floats:
    return 100 * means[..., 0]


def f1(means: Floats) -> Floats:
    """Compute F1 in per cent from means of the columns matched, answered and expected.

    F1 is 0 if nothing was answered and nothing was expected.
    """
    total = means[..., 1] + means[..., 2]
    return np.divide(200 * means[..., 0], total, out=np.zeros_like(total), where=total > 0)


def acc_and_acc_plus(means: Floats) -> Floats:
    return np.asarray(100 * means.sum(axis=-1))


METRICS: dict[Metric, MetricRule] = {
    "ocr_containment": MetricRule(
        per_item(lambda item, answer: ocr_containment(answer, first_truth(item))), percent
    ),
    "ocr_letters": MetricRule(
        per_item(lambda item, answer: ocr_letters(answer, first_truth(item))), percent
    ),
    "kie_words": MetricRule(kie_word_rows, f1),
    "kie_entities": MetricRule(kie_entity_rows, f1),
    "vqa_containment": MetricRule(
        per_item(lambda item, answer: vqa_containment(answer, item.answers)), percent
    ),
    "vqa_every": MetricRule(
        per_item(lambda item, answer: vqa_every(answer, item.answers)), percent
    ),
    "vqa_exact": MetricRule(
        per_item(lambda item, answer: vqa_exact(answer, item.answers)), percent
    ),
    "vqa_consensus": MetricRule(per_item(consensus), percent),
    "contains_any": MetricRule(
        per_item(lambda item, answer: contains_any(answer, item.answers)), percent
    ),
    "anls": MetricRule(per_item(lambda item, answer: anls(answer, item.answers)), percent),
    "visdial_rank": MetricRule(
        per_item(lambda item, answer: visdial_reciprocal_rank(answer, item.candidates or [])),
        percent,
    ),
    "visdial_exact": MetricRule(per_item(visdial_exact), percent),
    "cider_raw": MetricRule(caption_rows(cider_raw), percent),
    "cider_ptb": MetricRule(caption_rows(cider_ptb), percent),
    "tool_success": tool_rule("success"),
    "tool_thought": tool_rule("thought"),
    "tool_action": tool_rule("action"),
    "tool_arguments": tool_rule("arguments"),
    "tool_overlap": tool_rule("iou"),
    "tool_strict": MetricRule(
        per_item(lambda item, answer: tool_strict(answer, first_truth(item))), percent
    ),
    "tool_false_call": MetricRule(
        per_item(lambda item, answer: tool_false_call(answer, first_truth(item))), percent
    ),
    "mme": mme_rule(mme_label),
    "mme_strict": mme_rule(mme_label_strict),
    "pope": MetricRule(
        per_item(lambda item, answer: float(pope_label(answer) == first_truth(item).lower())),
        percent,
    ),
    "pope_f1": MetricRule(
        pope_rows, f1, lambda item, answer: pope_label(answer) == first_truth(item).lower()
    ),
}
