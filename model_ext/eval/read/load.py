"""The items of a task of the table, from the data root."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.ehub import caption, choice, kie, ocr, vqa
from model_ext.eval.read.files import exists
from model_ext.eval.read.mme import read_mme
from model_ext.eval.read.pope import read_pope
from model_ext.eval.tasks.draw import draw
from model_ext.eval.tasks.table import POPE
from model_ext.eval.tasks.task import Task

READERS: dict[str, Callable[[Path, Task], Iterator[Item]]] = {
    "SROIE": kie.read_sroie,
    "FUNSD": kie.read_funsd,
    "NoCaps": caption.read_nocaps,
    "Flickr-30k": caption.read_flickr,
    "DocVQA": vqa.read_docvqa,
    "TextVQA": vqa.read_textvqa,
    "STVQA": vqa.read_stvqa,
    "OCR-VQA": vqa.read_ocrvqa,
    "OKVQA": vqa.read_okvqa,
    "GQA": vqa.read_gqa,
    "Visdial": vqa.read_visdial,
    "IconQA": choice.read_iconqa,
    "VSR": choice.read_vsr,
    "ScienceQA IMG": choice.read_scienceqa,
    "VizWiz": vqa.read_vizwiz,
    **{task.name: read_pope for task in POPE},
}


def load_items(root: Path, task: Task, caption_prompt: str | None = None) -> list[Item]:
    """Read the questions of a task, or the random subset that LVLM-eHub draws, in the order of the
    draws.

    A split with fewer items than the subset is read completely. `caption_prompt` replaces the
    prompt of the caption tasks.

    Raises DataError: when a file is missing or not valid, or has no item.
    """
    if caption_prompt is not None and task.kind == "Caption":
        task = replace(task, prompt=caption_prompt)
    if task.kind == "MME":
        items = list(read_mme(root, task.name.removeprefix("MME/")))
    else:
        items = list(READERS.get(task.name, ocr.read_ocr)(root, task))
    if not items:
        raise DataError(root / task.files[0], "has no questions")
    if task.draw is not None and task.size is not None and task.size < len(items):
        items = [items[index] for index in draw(len(items), task.size)]
    for item in items:
        if not item.place:
            item.at(root / task.files[0], item.id)
        for _, source in item.media():
            if not exists(Path(source)):
                raise DataError(root / task.files[0], f"{source} does not exist", item.id)
    return items
