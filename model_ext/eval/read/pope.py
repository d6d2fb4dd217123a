"""Read POPE's files of questions. A line is a JSON object with the name of a picture of COCO."""

from collections.abc import Iterator
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import inside, parse_json, read_lines
from model_ext.eval.tasks.task import Task

ANSWERS = ("yes", "no")


def read_pope(root: Path, task: Task) -> Iterator[Item]:
    """Read the questions of a subset. `root` contains the folder `POPE`.

    Raises DataError: when a line is not a question of POPE, or when its picture is missing.
    """
    path, images = (root / file for file in task.files)
    for row, line in read_lines(path):
        fields = parse_json(line, path, row)
        if not isinstance(fields, dict) or not all(
            isinstance(fields.get(key), str) for key in ("image", "text", "label")
        ):
            raise DataError(path, "is not an object with image, text and label", row)
        if fields["label"].lower() not in ANSWERS:
            raise DataError(path, "label: expected yes or no", row)
        yield Item(
            id=f"{task.name}/{fields.get('question_id', row)}",
            task=task.name,
            question=fields["text"],
            answers=[fields["label"].lower()],
            image=str(inside(images, fields["image"], path, row)),
        ).at(path, row)
