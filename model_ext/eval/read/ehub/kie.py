"""SROIE and FUNSD."""

from collections.abc import Iterator
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import field, inside, list_field, read_json, text_field
from model_ext.eval.tasks.prompts import SROIE
from model_ext.eval.tasks.task import Task


def read_sroie(root: Path, task: Task) -> Iterator[Item]:
    """Read one question for each entity that a receipt has. The order is that of the prompts."""
    folder = root / "KIE_Datasets" / "SROIE"
    for path in files(folder / "gt_answers", "*.txt"):
        truths = read_json(path)
        image = inside(folder / "images", f"{path.stem}.jpg", path)
        for key, prompt in SROIE.items():
            if isinstance(truths, dict) and key in truths:
                yield Item(
                    id=f"{task.name}/{path.stem}/{key}",
                    task=task.name,
                    question=prompt,
                    answers=[text_field(truths, key, path)],
                    image=str(image),
                )


def read_funsd(root: Path, task: Task) -> Iterator[Item]:
    """Read each form's questions. Skip questions without a link to an answer that has text."""
    folder = root / "KIE_Datasets" / "FUNSD" / "testing_data"
    for path in files(folder / "annotations", "*.json"):
        form = [
            entry
            for entry in list_field(read_json(path), "form", path)
            if list_field(entry, "linking", path)
        ]
        texts = {
            text_field(entry, "id", path): text_field(entry, "text", path)
            for entry in form
            if field(entry, "label", path) == "answer"
        }
        image = inside(folder / "images", f"{path.stem}.png", path)
        for entry in form:
            if entry["label"] != "question":
                continue
            row = text_field(entry, "id", path)
            answer = " ".join(texts[i] for i in linked_ids(entry, path, row) if i in texts)
            if answer:
                yield Item(
                    id=f"{task.name}/{path.stem}/{row}",
                    task=task.name,
                    question=task.prompt.format(question=text_field(entry, "text", path, row)),
                    answers=[answer],
                    image=str(image),
                )


def linked_ids(entry: object, path: Path, row: str) -> list[str]:
    links = list_field(entry, "linking", path, row)
    if not all(isinstance(link, list) and len(link) == 2 for link in links):
        raise DataError(path, "a link is not a pair of ids", row)
    return [str(link[1]) for link in links]


def files(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise DataError(folder, f"has no files {pattern}")
    return paths
