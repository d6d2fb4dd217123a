"""NoCaps and Flickr-30k."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import below, inside, list_field, read_json, read_lines, text_field
from model_ext.eval.tasks.task import Task

FOLDER = "Caption_Datasets"


def read_nocaps(root: Path, task: Task) -> Iterator[Item]:
    folder = root / FOLDER / "NoCaps"
    path = folder / "nocaps_val_4500_captions.json"
    data = read_json(path)
    captions = defaultdict(list)
    for row, record in enumerate(list_field(data, "annotations", path)):
        image_id = text_field(record, "image_id", path, row)
        captions[image_id].append(text_field(record, "caption", path, row))
    for row, record in enumerate(list_field(data, "images", path)):
        image_id = text_field(record, "id", path, row)
        name = text_field(record, "file_name", path, row)
        image = inside(folder / "val_imgs", name, path, row)
        yield caption(task, image_id, captions.get(image_id, []), image, path)


def read_flickr(root: Path, task: Task) -> Iterator[Item]:
    """Lines `<jpg>#<k>` TAB caption."""
    folder = root / FOLDER / "Flickr_30k"
    path = folder / "results_20130124.token"
    captions = defaultdict(list)
    for row, line in read_lines(path):
        key, tab, text = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if not tab or not mark:
            raise DataError(path, "is not <picture>#<number>, a tab, and a caption", row)
        captions[name].append(text)
    for name, texts in captions.items():
        image = below(folder / "flickr30k-images", name, path, name)
        yield caption(task, name, texts, image, path)


def caption(task: Task, key: str, references: list[str], image: Path, path: Path) -> Item:
    if not references:
        raise DataError(path, "the picture has no caption", key)
    return Item(
        id=f"{task.name}/{key}",
        task=task.name,
        question=task.prompt,
        answers=references,
        image=str(image),
    )
