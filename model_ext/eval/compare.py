"""Compare two runs on the same questions: compute a paired test, and list the different answers."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from model_ext.eval.bootstrap import Floats, Statistic, bootstrap
from model_ext.eval.item import Item
from model_ext.eval.metrics import METRICS, question_scores
from model_ext.eval.score import in_order
from model_ext.eval.tasks.task import Task

SAMPLES = 10_000
CHUNK = 100  # number of permutations computed at once


class Change(NamedTuple):
    """A question to which the two runs give different answers. A right answer has the score 100."""

    item: Item
    first: str
    second: str
    scores: tuple[float | None, float | None]


class Comparison(NamedTuple):
    """`interval`: 95% interval of `second - first`. `p`: two-sided p value of the paired test."""

    task: Task
    first: float
    second: float
    interval: tuple[float, float]
    p: float
    items: int
    changes: list[Change]

    @property
    def better(self) -> int:
        """The number of questions whose score is higher in the second run."""
        return sum((c.scores[1] or 0) > (c.scores[0] or 0) for c in self.changes)

    @property
    def worse(self) -> int:
        return sum((c.scores[1] or 0) < (c.scores[0] or 0) for c in self.changes)


def compare(
    task: Task, items: Sequence[Item], first: Mapping[str, str], second: Mapping[str, str]
) -> Comparison:
    """Compare two runs' answers by item id, with the task's first metric.

    Raises ValueError: when an answer is missing or belongs to no item.
    """
    texts = [in_order(task.name, items, answers) for answers in (first, second)]
    rule = METRICS[task.metric]
    pairs = zip(*(rule.rows(items, answers) for answers in texts), strict=True)
    kept = [(a, b) for a, b in pairs if a is not None and b is not None]
    rows = np.array(kept, dtype=np.float64)  # [items, runs, columns]
    values = [float(rule.statistic(rows[:, run].mean(axis=0))) for run in (0, 1)]
    columns = rows.shape[2]

    def gain(means: Floats) -> Floats:  # [..., both runs' columns] -> [...]
        return rule.statistic(means[..., columns:]) - rule.statistic(means[..., :columns])

    both = rows.reshape(len(rows), 2 * columns)
    return Comparison(
        task=task,
        first=values[0],
        second=values[1],
        interval=bootstrap(both, gain, f"{task.name}/interval").interval,
        p=permutation_p(rows, rule.statistic, task.name),
        items=len(rows),
        changes=changes(task, items, texts[0], texts[1]),
    )


def permutation_p(rows: Floats, statistic: Statistic, name: str) -> float:
    """The two-sided p value of a paired permutation test. rows: [items, runs, columns].

    Each permutation exchanges the two runs' rows of each item with probability 1/2. The p value
    is the share of permutations whose absolute difference is at least the observed difference. The
    observed data count as one of the permutations.
    """
    generator = np.random.default_rng(zlib.crc32(f"{name}/p".encode()))
    items = len(rows)
    sums = rows.sum(axis=1)  # [items, columns]
    gaps = rows[:, 1] - rows[:, 0]
    total, gap = sums.sum(axis=0), gaps.sum(axis=0)
    observed = abs(difference(total, gap, statistic, items))
    at_least = 0
    for _ in range(SAMPLES // CHUNK):
        signs = generator.integers(0, 2, size=(CHUNK, items)) * 2 - 1
        values = np.abs(difference(total, signs @ gaps, statistic, items))
        at_least += int((values >= observed - 1e-9).sum())
    return (at_least + 1) / (SAMPLES + 1)


def difference(total: Floats, gap: Floats, statistic: Statistic, items: int) -> Floats:
    """The second run's figure minus the first run's. `total` is the sum of both runs' rows, `gap`
    is the second run's rows minus the first run's.
    """
    return statistic((total + gap) / (2 * items)) - statistic((total - gap) / (2 * items))


def changes(
    task: Task, items: Sequence[Item], first: Sequence[str], second: Sequence[str]
) -> list[Change]:
    """The questions with different answers. Those with different scores come first."""
    by_run = [question_scores(task.metric, items, texts) for texts in (first, second)]
    scores = zip(*by_run, strict=True)
    rows = [
        Change(item, a, b, (score_a, score_b))
        for item, a, b, (score_a, score_b) in zip(items, first, second, scores, strict=True)
        if a != b
    ]
    return sorted(rows, key=lambda change: change.scores[0] == change.scores[1])
