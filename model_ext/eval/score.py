"""Score a task's answers, and two baselines: the answer "Yes" to every question, and answers that
the model gave without media.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from model_ext.eval.bootstrap import Estimate, bootstrap
from model_ext.eval.item import Item
from model_ext.eval.metrics import METRICS, estimate, percent
from model_ext.eval.scorers.visdial import visdial_true_rank
from model_ext.eval.tasks.task import Metric, Task

ALWAYS_YES = "Yes"
TOOL_METRICS: tuple[Metric, ...] = (
    *("tool_thought", "tool_action", "tool_arguments", "tool_success"),
    *("tool_overlap", "tool_strict", "tool_false_call"),
)
LISTED = 5  # an error message lists at most this many ids


@dataclass(frozen=True)
class TaskScore:
    """The scores of one task.

    `ehub`: the score by the rule of the benchmark LVLM-eHub (or MME). `text_only`: the score of a
    run without media, or None if there is no such run.
    """

    task: Task
    ehub: Estimate
    strict: Estimate | None
    always_yes: Estimate
    text_only: Estimate | None
    # The further scores of a task with tools.
    tools: Mapping[Metric, Estimate] = field(default_factory=dict)


def score_task(
    task: Task,
    items: Sequence[Item],
    answers: Mapping[str, str],
    text_only: Mapping[str, str] | None = None,
    logprobs: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> TaskScore:
    """Score answers (item id -> text). `text_only`: answers to the same questions without media.

    The result's field `strict` is None if no item has a strict score. In OCR tasks, an item has no
    strict score if its correct answer contains no letters and digits.

    `logprobs`: the log-probabilities of each item's candidates (Visdial). If all items have them,
    the strict score is the mean reciprocal rank of the right candidate. Raises ValueError: when an
    answer is missing or belongs to no item.
    """
    texts = in_order(task.name, items, answers)
    strict = None
    if task.strict != "ocr_letters" or any(has_letters(item) for item in items):
        strict = estimate(task.strict, items, texts, task.name)
    if task.strict == "visdial_exact" and all(item.id in logprobs for item in items):
        ranks = [[visdial_true_rank(logprobs[item.id], item.truth_index or 0)] for item in items]
        strict = bootstrap(np.array(ranks), percent, f"{task.name}/true rank")
    blind = (
        in_order(f"{task.name} (text only)", items, text_only) if text_only is not None else None
    )
    return TaskScore(
        task=task,
        ehub=estimate(task.metric, items, texts, task.name),
        strict=strict,
        always_yes=estimate(task.metric, items, [ALWAYS_YES] * len(items), task.name),
        text_only=None if blind is None else estimate(task.metric, items, blind, task.name),
        tools=tool_estimates(task, items, texts),
    )


def tool_estimates(
    task: Task, items: Sequence[Item], texts: Sequence[str]
) -> dict[Metric, Estimate]:
    """Compute the further scores of a task with tools. Omits a score if no item has it."""
    if task.metric != "tool_success":
        return {}
    return {
        metric: estimate(metric, items, texts, task.name)
        for metric in TOOL_METRICS
        if any(row is not None for row in METRICS[metric].rows(items, texts))
    }


def in_order(name: str, items: Sequence[Item], answers: Mapping[str, str]) -> list[str]:
    ids = [item.id for item in items]
    missing = [key for key in ids if key not in answers]
    foreign = sorted(answers.keys() - set(ids))
    for keys, problem in ((missing, "have no answer"), (foreign, "are not questions of the task")):
        if keys:
            listed = ", ".join(keys[:LISTED])
            raise ValueError(f"{name}: {len(keys)} ids {problem}: {listed}")
    return [answers[key] for key in ids]


def has_letters(item: Item) -> bool:
    return any(c.isascii() and c.isalnum() for truth in item.answers[:1] for c in truth)
