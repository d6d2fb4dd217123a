"""The data sets whose prompt lists the choices: IconQA, VSR and ScienceQA."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.ehub.vqa import FOLDER, element, question
from model_ext.eval.read.files import (
    field,
    first_existing,
    inside,
    parse_json,
    read_json,
    read_lines,
    text_field,
    texts_field,
)
from model_ext.eval.tasks.task import Task

VSR_LABELS = ("No", "Yes")


def choice(task: Task, key: str | int, record: object, image: Path, path: Path, row: int) -> Item:
    """Make an item from a record with `choices` and the index `answer` of the correct choice."""
    choices = texts_field(record, "choices", path, row)
    truth = element(choices, field(record, "answer", path, row), path, row)
    text = text_field(record, "question", path, row)
    prompt = task.prompt.format(question=text, choices=" ".join(choices))
    return Item(
        id=f"{task.name}/{key}",
        task=task.name,
        question=prompt,
        answers=[truth],
        image=str(image),
        choices=choices,
    )


def read_iconqa(root: Path, task: Task) -> Iterator[Item]:
    """Folders `<n>/{data.json,image.png}`, in the order of their numbers."""
    top = root / FOLDER / "IconQA"
    below = Path("test", "choose_txt")
    folder = first_existing(top / "dataset" / below, top / "datasets" / below)
    paths = sorted(folder.glob("*/data.json"), key=lambda path: natural(path.parent.name))
    if not paths:
        raise DataError(folder, "has no files <number>/data.json")
    for row, path in enumerate(paths):
        image = inside(path.parent, "image.png", path)
        yield choice(task, path.parent.name, read_json(path), image, path, row)


def read_vsr(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "VSR"
    path = folder / "all_vsr_validated_data.jsonl"
    for row, line in read_lines(path):
        record = parse_json(line, path, row)
        image = inside(folder / "images", text_field(record, "image", path, row), path, row)
        truth = element(VSR_LABELS, field(record, "label", path, row), path, row)
        yield question(task, row, text_field(record, "caption", path, row), [truth], image)


def read_scienceqa(root: Path, task: Task) -> Iterator[Item]:
    """Read LVLM-eHub's saved list of questions.

    Each record has either `choices` and the index of the correct choice, or the complete prompt and
    the correct answer. `image_path` can be an absolute path; only its file name is used.
    """
    folder = root / FOLDER / "ScienceQA"
    path = folder / "test_anns.json"
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(path, "is not a list of questions")
    for row, record in enumerate(records):
        name = PurePosixPath(text_field(record, "image_path", path, row)).name
        image = inside(folder / "test_imgs", name, path, row)
        if "choices" in record:
            yield choice(task, row, record, image, path, row)
        else:
            yield Item(
                id=f"{task.name}/{row}",
                task=task.name,
                question=text_field(record, "question", path, row),
                answers=[text_field(record, "answer", path, row)],
                image=str(image),
            )


def natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)
