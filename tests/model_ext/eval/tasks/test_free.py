from pathlib import Path
from typing import Any

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.tasks.free import free_tasks

PATH = Path("x.jsonl")


def item(key: str = "0", task: str = "Sounds", **fields: Any) -> Item:
    return Item(id=key, task=task, question="Q?", answers=["a"], **fields)


def test_rows_name_the_metric_of_their_task() -> None:
    items = [
        item("0", metric="vqa_containment"),
        item("1", "GQA"),
        item("2", "Mixes", metric="vqa_containment", strict="vqa_every"),
        item("3", "Words", metric="anls"),
    ]
    tasks = free_tasks(PATH, items)
    assert {name: (task.metric, task.strict) for name, task in tasks.items()} == {
        "Sounds": ("vqa_containment", "vqa_exact"),
        "Mixes": ("vqa_containment", "vqa_every"),
        "Words": ("anls", "anls"),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{}], "row 0: `metric` of the task Sounds is None; choose from"),
        ([{"metric": "bleu"}], "is 'bleu'"),
        ([{"metric": "anls", "strict": "bleu"}], "is 'bleu'"),
        ([{"metric": "anls"}, {"metric": "mme"}], "row 1: the task Sounds has two metrics"),
    ],
)
def test_rejects_rows_without_a_metric(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        free_tasks(PATH, [item(str(n), **row) for n, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("names", "other"),
    [(("My birds", "MyBirds"), "My birds"), (("gqa",), "GQA"), (("MME",), "mme")],
)
def test_rejects_names_that_the_command_line_cannot_distinguish(
    names: tuple[str, ...], other: str
) -> None:
    """Regression: if two names differed only in case or punctuation, one task silently replaced the
    other.
    """
    items = [item(str(n), name, metric="anls") for n, name in enumerate(names)]
    with pytest.raises(DataError, match=f"of the tasks {names[-1]} and {other} differ only in"):
        free_tasks(PATH, items)
