"""The data sets whose prompt is the question of the file."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import (
    below,
    field,
    first_existing,
    inside,
    list_field,
    read_json,
    text_field,
    texts_field,
)
from model_ext.eval.tasks.task import Task

FOLDER = "VQA_Datasets"
VALIDATION = 2  # OCR-VQA's file marks records of the validation split with this number
SUFFIXES = (".jpg", ".png", ".gif", ".jpeg")


def question(task: Task, key: str | int, text: str, answers: Sequence[str], image: Path) -> Item:
    return Item(
        id=f"{task.name}/{key}",
        task=task.name,
        question=task.prompt.format(question=text),
        answers=list(answers),
        image=str(image),
    )


def read_docvqa(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "DocVQA"
    path = first_existing(folder / "val" / "val_v1.0.json", folder / "val.json")
    for row, record in enumerate(list_field(read_json(path), "data", path)):
        image = inside(folder / "val", text_field(record, "image", path, row), path, row)
        yield answered(task, row, record, image, path)


def read_textvqa(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "TextVQA"
    path = folder / "TextVQA_0.5.1_val.json"
    for row, record in enumerate(list_field(read_json(path), "data", path)):
        name = text_field(record, "image_id", path, row) + ".jpg"
        yield answered(task, row, record, inside(folder / "train_images", name, path, row), path)


def read_stvqa(root: Path, task: Task) -> Iterator[Item]:
    """Read all questions of the split. `load.py` draws a subset, and checks its pictures."""
    folder = root / FOLDER / "STVQA"
    path = folder / "train_task_3.json"
    for row, record in enumerate(list_field(read_json(path), "data", path)):
        name = text_field(record, "file_name", path, row)
        name = f"{text_field(record, 'dataset', path, row)}/{name}"
        image = below(folder / "train_imgs", name, path, row)
        yield answered(task, row, record, image, path)


def answered(task: Task, row: int, record: object, image: Path, path: Path) -> Item:
    text = text_field(record, "question", path, row)
    return question(task, row, text, texts_field(record, "answers", path, row), image)


def read_ocrvqa(root: Path, task: Task) -> Iterator[Item]:
    """A picture's file name is the last part of the record's `imageURL`, or the record's key."""
    folder = root / FOLDER / "OCRVQA"
    path = folder / "dataset.json"
    for key, record in mapping(read_json(path), path):
        if field(record, "split", path, key) != VALIDATION:
            continue
        questions = texts_field(record, "questions", path, key)
        answers = texts_field(record, "answers", path, key)
        if len(questions) != len(answers):
            raise DataError(path, f"{len(questions)} questions but {len(answers)} answers", key)
        url = PurePosixPath(text_field(record, "imageURL", path, key)).name
        names = [url, *(key + suffix for suffix in SUFFIXES)]
        image = image_of(folder / "images", names, path, key)
        for number, (text, answer) in enumerate(zip(questions, answers, strict=True)):
            yield question(task, f"{key}/{number}", text, [answer], image)


def read_okvqa(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "OKVQA"
    path = folder / "mscoco_val2014_annotations.json"
    truths: dict[str, list[str]] = {}
    for row, record in enumerate(list_field(read_json(path), "annotations", path)):
        answers = list_field(record, "answers", path, row)
        key = text_field(record, "question_id", path, row)
        truths[key] = [text_field(answer, "answer", path, row) for answer in answers]
    path = folder / "OpenEnded_mscoco_val2014_questions.json"
    for row, record in enumerate(list_field(read_json(path), "questions", path)):
        key = text_field(record, "question_id", path, row)
        if key not in truths:
            raise DataError(path, f"question_id {key} has no annotation", row)
        name = f"COCO_val2014_{text_field(record, 'image_id', path, row):0>12}.jpg"
        image = inside(folder / "val2014", name, path, row)
        yield question(task, key, text_field(record, "question", path, row), truths[key], image)


def read_gqa(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "GQA"
    path = folder / "questions" / "testdev_balanced_questions.json"
    for key, record in mapping(read_json(path), path):
        name = text_field(record, "imageId", path, key) + ".jpg"
        image = inside(folder / "images", name, path, key)
        truth = text_field(record, "answer", path, key)
        yield question(task, key, text_field(record, "question", path, key), [truth], image)


def read_visdial(root: Path, task: Task) -> Iterator[Item]:
    """Read each turn of each dialogue as one item, without the earlier turns."""
    folder = root / FOLDER / "Visdial"
    path = folder / "visdial_1.0_val.json"
    data = field(read_json(path), "data", path)
    questions = texts_field(data, "questions", path)
    answers = texts_field(data, "answers", path)
    for row, dialog in enumerate(list_field(data, "dialogs", path)):
        name = f"VisualDialog_val2018_{text_field(dialog, 'image_id', path, row):0>12}.jpg"
        image = inside(folder / "images_val2018", name, path, row)
        for number, turn in enumerate(list_field(dialog, "dialog", path, row)):
            options = list_field(turn, "answer_options", path, row)
            truth = field(turn, "gt_index", path, row)
            index = field(turn, "question", path, row)
            candidates = [element(answers, option, path, row) for option in options]
            item = question(
                task,
                f"{row}/{number}",
                element(questions, index, path, row),
                [element(candidates, truth, path, row)],
                image,
            )
            yield item.model_copy(update={"candidates": candidates, "truth_index": truth})


def read_vizwiz(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "VizWiz"
    path = folder / "val_grounding.json"
    for key, record in mapping(read_json(path), path):
        image = inside(folder / "val", key, path, key)
        answers = texts_field(record, "answers", path, key)
        yield question(task, key, text_field(record, "question", path, key), answers, image)


def mapping(data: object, path: Path) -> Iterator[tuple[str, object]]:
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    yield from data.items()


def element(values: Sequence[str], index: object, path: Path, row: int) -> str:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(values):
        raise DataError(path, f"{index!r} is not an index below {len(values)}", row)
    return values[index]


def image_of(folder: Path, names: Sequence[str], path: Path, row: str) -> Path:
    """Return the path of the first name that exists. Raises DataError: when none exists."""
    for name in names:
        if name and "/" not in name and (folder / name).is_file():
            return folder / name
    return inside(folder, names[0], path, row)
