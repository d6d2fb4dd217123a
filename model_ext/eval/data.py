"""The questions of a run, from a data folder, a TSV file or a JSONL file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.metrics import METRICS
from model_ext.eval.read.gpt4tools import read_gpt4tools
from model_ext.eval.read.jsonl import read_jsonl
from model_ext.eval.read.load import load_items
from model_ext.eval.read.tsv import read_tsv
from model_ext.eval.tasks.free import free_tasks
from model_ext.eval.tasks.table import select_tasks
from model_ext.eval.tasks.task import Task

ALL = "all"  # This name selects all tasks of a .jsonl or .json file.
# Suffix -> function that reads a file which defines its own tasks.
READERS: Mapping[str, Callable[[Path], Iterable[Item]]] = {
    ".jsonl": read_jsonl,
    ".json": read_gpt4tools,
}
Questions = dict[str, list[Item]]  # Name of a task -> its questions.


def load_named(
    data: Path, names: str, caption_prompt: str | None = None
) -> tuple[tuple[Task, ...], Questions]:
    """Return the tasks in `names`, and their questions. A .jsonl file can define its own tasks. A
    .json file of GPT4Tools is one task.

    The name "all" selects all tasks of the file.

    Raises UnknownTask: when a name is unknown. Raises DataError: when `load_data` or `free_tasks`
    does, or when a question cannot be scored with its task's metrics.
    """
    if data.suffix in READERS:
        items = list(READERS[data.suffix](data))
        if names == ALL:
            names = ",".join(dict.fromkeys(item.task for item in items))
        tasks = select_tasks(names, free_tasks(data, items))
        questions = select(data, items, tasks)
    else:
        tasks = select_tasks(names)
        questions = load_data(data, tasks, caption_prompt)
    for task in tasks:
        check_items(data, task, questions[task.name])
    return tasks, questions


def check_items(data: Path, task: Task, items: list[Item]) -> None:
    """Before a run, find rows that cannot be scored: score an empty answer to each question."""
    for metric in {task.metric, task.strict}:
        try:
            METRICS[metric].rows(items, [""] * len(items))
        except ValueError as e:
            raise DataError(data, f"{task.name}: {e}") from e


def load_data(data: Path, tasks: Sequence[Task], caption_prompt: str | None = None) -> Questions:
    """Read the questions of each task from a folder or a .tsv file.

    A folder contains files in the layouts of LVLM-eHub and MME. A .tsv file holds one data set, or
    all of MME.

    Raises DataError: when a task has no questions, or a file does not fit the tasks.
    """
    if data.suffix == ".tsv":
        return select(data, read_items(data, tasks), tasks)
    return {task.name: load_items(data, task, caption_prompt) for task in tasks}


def read_items(path: Path, tasks: Sequence[Task]) -> list[Item]:
    if all(task.kind == "MME" for task in tasks):
        return list(read_tsv(path, "MME"))
    if len(tasks) > 1:
        raise DataError(path, f"holds one data set, but {len(tasks)} tasks were named")
    return list(read_tsv(path, tasks[0].name))


def select(path: Path, items: list[Item], tasks: Sequence[Task]) -> Questions:
    questions = {task.name: [item for item in items if item.task == task.name] for task in tasks}
    for name, selected in questions.items():
        if not selected:
            raise DataError(path, f"has no question of the task {name}")
    return questions
