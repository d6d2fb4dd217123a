"""The evaluation set of the demonstration model: the builder writes the committed list, which names
only media of the test split.
"""

import json
from collections import Counter
from pathlib import Path

from PIL import Image

from model_ext.demo.build_data import LISTS
from model_ext.demo.build_evaluation import NAME, rows
from model_ext.demo.receipts import receipts, write_receipt, write_word
from model_ext.demo.splits import CONCEPTS
from model_ext.eval.data import check_items
from model_ext.eval.item import MODALITIES, Item
from model_ext.eval.tasks.free import free_tasks

LIST = LISTS / NAME
ITEMS = [Item.model_validate_json(line) for line in LIST.read_text().splitlines()]


def test_the_committed_list_is_the_recipes() -> None:
    expected = [{"id": str(number), **row} for number, row in enumerate(rows())]
    assert list(map(json.loads, LIST.read_text().splitlines())) == expected


def test_every_task_can_be_scored() -> None:
    tasks = free_tasks(LIST, ITEMS)
    for task in tasks.values():
        check_items(LIST, task, [item for item in ITEMS if item.task == task.name])
    metrics = {task.metric for task in tasks.values()}
    assert metrics >= {
        "ocr_containment", "kie_words", "cider_raw", "vqa_containment", "visdial_rank", "mme",
    }  # fmt: skip


def test_media_are_those_of_the_test_split() -> None:
    held_out = set()
    for line in (LISTS / "test.txt").read_text().splitlines():
        folder, _, names = line.partition(": ")
        held_out |= {f"{folder}/{name}" for name in names.split()}
    for item in ITEMS:
        for modality, path in item.media():
            drawn = path.split("/")[0] in ("ocr", "receipt")
            assert drawn or path in held_out
            assert modality in MODALITIES


def test_each_concept_has_its_questions() -> None:
    counts = Counter(item.task for item in ITEMS)
    assert counts["Demo word"] == counts["Demo existence"] == 2 * len(CONCEPTS)
    assert {count for task, count in counts.items() if task.startswith("Demo mix")} == {64}
    for item in ITEMS:
        if item.candidates is not None:
            assert item.truth_index is not None
            assert item.candidates[item.truth_index].split()[-1].rstrip(".") in str(item.image)
        if item.weights is not None:
            assert sum(item.weights.values()) == 1


def test_words_and_receipts_are_drawn(tmp_path: Path) -> None:
    write_word("motorcycle", tmp_path / "ocr" / "word.png")
    for receipt in list(receipts(0))[:1]:
        write_receipt(receipt, tmp_path / "receipt.png")
    for name in ("ocr/word.png", "receipt.png"):
        darkest, brightest = Image.open(tmp_path / name).convert("L").getextrema()
        assert brightest - darkest > 100, "dark letters on a bright ground"
    assert list(receipts(0)) == list(receipts(0))
