"""MME's folders of questions, and the result files of its official tool."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import inside, read_lines

RELEASE = "MME_Benchmark_release_version"
SUFFIXES = (".jpg", ".png")
TRUTHS = ("Yes", "No")


class MmeAnswer(NamedTuple):
    """A line of a result file."""

    image: str
    question: str
    truth: str
    answer: str


def read_mme(root: Path, subtask: str) -> Iterator[Item]:
    """The questions of a subtask, two for each picture, in the order of the file names.

    `root` holds `MME_Benchmark_release_version`. Texts and pictures are in two folders, or side
    by side. Raises DataError: when a text has not two questions, or its picture is missing.
    """
    folder = root / RELEASE / subtask
    texts = folder / "questions_answers_YN"
    images = folder / "images"
    if not texts.is_dir():
        texts = images = folder
    paths = sorted(texts.glob("*.txt"))
    if not paths:
        raise DataError(texts, "has no texts of questions (*.txt)")
    for path in paths:
        image = picture(images, path)
        rows = [(row, line) for row, line in read_lines(path) if line.strip()]
        if len(rows) != 2:
            raise DataError(path, f"has {len(rows)} questions; MME has 2 for each picture")
        for row, line in rows:
            question, tab, truth = line.rpartition("\t")
            if not tab or truth.strip() not in TRUTHS:
                raise DataError(path, "is not a question, a tab, and Yes or No", row)
            yield Item(
                id=f"MME/{subtask}/{image.name}/{row}",
                task=f"MME/{subtask}",
                question=question,
                answers=[truth.strip()],
                image=str(image),
                pair=image.name,
            ).at(path, row)


def read_mme_results(path: Path) -> Iterator[MmeAnswer]:
    """Read the lines of `<subtask>.txt`: image, question, truth and answer, separated by tabs.

    Raises DataError: when a line does not have four columns, or two consecutive lines are not a
    picture's pair of questions.
    """
    previous: MmeAnswer | None = None
    row = 0
    for row, line in read_lines(path):
        columns = line.split("\t", 3)
        if len(columns) != 4 or columns[2] not in TRUTHS:
            raise DataError(path, "is not image, question, Yes or No, and answer", row)
        answer = MmeAnswer(*columns)
        if previous is not None and previous.image != answer.image:
            raise DataError(path, "the two questions of a picture are not neighbors", row)
        previous = answer if previous is None else None
        yield answer
    if previous is not None or row == 0:
        raise DataError(path, "does not have two questions for each picture", row)


def picture(folder: Path, text: Path) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{text.stem}{suffix}").is_file():
            return folder / f"{text.stem}{suffix}"
    return inside(folder, f"{text.stem}{SUFFIXES[0]}", text)  # raises DataError: none exists
