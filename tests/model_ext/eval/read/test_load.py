"""Every data set in the table of tasks is read from a small folder in its layout."""

import json
from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.read.load import READERS, load_items
from model_ext.eval.tasks.table import DATA_SETS as TASKS_IN_ORDER
from model_ext.eval.tasks.table import POPE, TASKS
from tests.model_ext.eval.read.folders import DATA_SETS, write

EXPECTED = {  # the question and the answers of each item
    "SVT": [("what is written in the image?", ["EXIT"]), ("what is written in the image?", ["$5"])],
    "SROIE": [
        ("what is the name of the company that issued this invoice?", ["ABC"]),
        ("what is the total amount of this invoice?", ["9.00"]),
    ],
    "FUNSD": [('what is "Name:" information in the image?', ["Jo Doe"])],
    "NoCaps": [("what is described in the image?", ["A dog.", "B"])],
    "Flickr-30k": [("what is described in the image?", ["A dog .", "A cat ."])],
    "DocVQA": [("Q?", ["a", "b"])],
    "TextVQA": [("Q?", ["a"] * 10)],
    "STVQA": [("Q?", ["a"])],
    "OCR-VQA": [("Q1?", ["Jo"]), ("Q2?", ["No"])],
    "OKVQA": [("Q?", ["surf"] * 10)],
    "GQA": [("Q?", ["red"])],
    "Visdial": [("is it red", ["no"])],
    "IconQA": [
        ("Question: Q9?\nOptions: left top right\n", ["top right"]),
        ("Question: Q10?\nOptions: left top right\n", ["top right"]),
    ],
    "VSR": [
        ("Question: Is the following caption right? The cat.\nOptions: No Yes\n", ["Yes"]),
    ],
    "ScienceQA IMG": [("Question: Q?\nOptions: a b\n", ["a"]), ("Question: P", ["b"])],
    "VizWiz": [("Q?", ["a"] * 10)],
}


def test_every_task_has_a_reader() -> None:
    others = {task.name for task in TASKS_IN_ORDER if task.kind != "OCR"}
    pope = {task.name for task in POPE}  # tests/model_ext/eval/read/test_pope.py tests its reader
    assert others | pope == READERS.keys()
    assert others == EXPECTED.keys() - {"SVT"}


@pytest.mark.parametrize("name", EXPECTED)
def test_questions_and_answers(name: str, tmp_path: Path) -> None:
    write(tmp_path, DATA_SETS[name])
    items = load_items(tmp_path, TASKS[name])
    assert [(item.question, item.answers) for item in items] == EXPECTED[name]
    assert len({item.id for item in items}) == len(items)
    assert all(item.task == name for item in items)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_missing_picture_is_an_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    write(tmp_path, {key: value for key, value in DATA_SETS[name].items() if value is not None})
    with pytest.raises(DataError, match=r"does not exist") as error:
        load_items(tmp_path, TASKS[name])
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_missing_data_set_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        load_items(tmp_path, TASKS[name])


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("hostile", ["", "[]", "{}", "null", "[" * 100_000, '{"data": 1}', "\0"])
def test_hostile_files_are_errors(name: str, hostile: str, tmp_path: Path) -> None:
    files = {k: hostile if value is not None else None for k, value in DATA_SETS[name].items()}
    write(tmp_path, files)
    with pytest.raises(DataError):
        load_items(tmp_path, TASKS[name])


@pytest.mark.parametrize("name", ["SVT", "VizWiz", "STVQA", "Flickr-30k", "NoCaps", "VSR"])
@pytest.mark.parametrize("path", ["/etc/hostname", "../../../../x.jpg"])
def test_paths_outside_the_data_are_rejected(name: str, path: str, tmp_path: Path) -> None:
    files = json.dumps(DATA_SETS[name])
    for picture in ("SVT/a.jpg", "v.jpg", "c.jpg", "a.jpg"):
        files = files.replace(f'"{picture}', f'"{path}').replace(f'\\"{picture}', f'\\"{path}')
    files = files.replace('"coco"', '".."')
    texts = {k: v for k, v in json.loads(files).items() if v is not None}
    write(tmp_path, texts)
    with pytest.raises(DataError, match=r"'.+' is not a path below"):
        load_items(tmp_path, TASKS[name])


def test_visdial_keeps_the_candidates_in_file_order(tmp_path: Path) -> None:
    write(tmp_path, DATA_SETS["Visdial"])
    (item,) = load_items(tmp_path, TASKS["Visdial"])
    assert item.candidates == ["blue", "no"]
    assert item.truth_index == 1


def test_draws_the_subset_in_the_drawn_order(tmp_path: Path) -> None:
    lines = "".join(f"{n}.jpg#0\tcaption {n}\n" for n in range(1200))
    folder = "Caption_Datasets/Flickr_30k"
    write(tmp_path, {f"{folder}/results_20130124.token": lines})
    write(tmp_path, {f"{folder}/flickr30k-images/{n}.jpg": None for n in range(1200)})
    items = load_items(tmp_path, TASKS["Flickr-30k"], caption_prompt="Describe {it}.")
    assert len({item.id for item in items}) == 1000
    assert items[0].id != "Flickr-30k/0.jpg"
    assert items[0].question == "Describe {it}."
