"""Tasks that are defined by a .jsonl file and are not in the paper's tables. Each row of the file
names its task and the task's metric.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.tasks.table import ALIASES, TASKS
from model_ext.eval.tasks.task import Metric, Task

STRICT: Mapping[Metric, Metric] = {
    "ocr_containment": "ocr_letters",
    "kie_words": "kie_entities",
    "vqa_containment": "vqa_exact",
    "visdial_rank": "visdial_exact",
    "cider_raw": "cider_ptb",
    "mme": "mme_strict",
    "tool_success": "tool_strict",
}  # metric -> default strict metric; a metric that is not listed is also its strict metric


def free_tasks(path: Path, items: Iterable[Item]) -> dict[str, Task]:
    """Return the items' tasks that are not in the paper's tables, as name -> task.

    Raises DataError: when a row's metric is missing or unknown, or differs from that of the task's
    first row. Raises DataError: when `--tasks` cannot distinguish the task's name from another one.
    """
    metrics = {name: name for name in get_args(Metric)}
    tasks: dict[str, Task] = {}
    names = {task.slug: name for name, task in TASKS.items()} | {name: name for name in ALIASES}
    for item in items:
        if item.task in TASKS:
            continue
        metric = metric_of(item.metric, metrics, path, item)
        strict = STRICT.get(metric, metric)
        if item.strict is not None:
            strict = metric_of(item.strict, metrics, path, item)
        task = Task(name=item.task, kind="Other", metric=metric, strict=strict, files=())
        if (other := names.setdefault(task.slug, task.name)) != task.name:
            message = f"the names of the tasks {task.name} and {other} differ only in case or"
            raise DataError(path, f"{message} punctuation; rename one", item.row)
        if tasks.setdefault(item.task, task) != task:
            raise DataError(path, f"the task {item.task} has two metrics", item.row)
    return tasks


def metric_of(name: str | None, metrics: Mapping[str, Metric], path: Path, item: Item) -> Metric:
    if name is None or name not in metrics:
        valid = ", ".join(metrics)
        raise DataError(
            path, f"`metric` of the task {item.task} is {name!r}; choose from {valid}", item.row
        )
    return metrics[name]
