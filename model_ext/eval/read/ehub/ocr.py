"""The 12 data sets of text recognition."""

from collections.abc import Iterator
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import inside, read_lines
from model_ext.eval.tasks.task import Task

FOLDER = "OCR_Datasets"


def read_ocr(root: Path, task: Task) -> Iterator[Item]:
    """Read lines of the form `<path below OCR_Datasets> <word>`. Further words are ignored."""
    path = root / FOLDER / task.name / "test_label.txt"
    for row, line in read_lines(path):
        pieces = line.split()
        if len(pieces) < 2:
            raise DataError(path, "is not a path and a word", row)
        yield Item(
            id=f"{task.name}/{row}",
            task=task.name,
            question=task.prompt,
            answers=[pieces[1]],
            image=str(inside(root / FOLDER, pieces[0], path, row)),
        ).at(path, row)
