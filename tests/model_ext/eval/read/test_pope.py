"""Reading POPE's files of questions, and scoring answers."""

import json
from pathlib import Path

import pytest

from model_ext.eval.data import load_named
from model_ext.eval.errors import DataError
from model_ext.eval.metrics import estimate
from model_ext.eval.scorers.pope import pope_label

ROWS = [
    {"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"},
    {"question_id": 2, "image": "a.jpg", "text": "Is there a car in the image?", "label": "no"},
    {"question_id": 3, "image": "b.jpg", "text": "Is there a cat in the image?", "label": "no"},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "POPE"
    (folder / "val2014").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / "val2014" / name).write_bytes(b"")
    for name in ("random", "popular", "adversarial"):
        lines = "".join(json.dumps(row) + "\n" for row in ROWS)
        (folder / f"coco_pope_{name}.json").write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Yes, there is a dog.", "yes"),
        ("No, there is not.", "no"),
        ("There is not a dog in the image. Yes.", "no"),
        ("Yes. No.", "yes"),
        ("Nobody knows", "yes"),
        ("no", "no"),
        ("NO", "yes"),  # as in the official tool, which knows only "No" and "no"
        ("", "yes"),
    ],
)
def test_the_label_is_that_of_the_first_sentence(answer: str, label: str) -> None:
    assert pope_label(answer) == label


def test_accuracy_and_f1(root: Path) -> None:
    (random, *_), questions = load_named(root, "pope")
    items = questions["POPE/random"]
    assert [item.question for item in items] == [row["text"] for row in ROWS]
    answers = ["Yes.", "Yes.", "No."]
    assert estimate("pope", items, answers, random.name).value == pytest.approx(100 * 2 / 3)
    # The answers have two "yes", of which one is right. One "yes" was expected.
    assert estimate("pope_f1", items, answers, random.name).value == pytest.approx(100 * 2 / 3)
    assert estimate("pope_f1", items, ["No."] * 3, random.name).value == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROWS[0], "label": "maybe"}, "yes or no"),
        ({**ROWS[0], "image": "../../secret"}, "secret"),
        ({**ROWS[0], "image": "missing.jpg"}, "missing"),
        ({"text": "?"}, "image, text and label"),
        ([], "image, text and label"),
    ],
)
def test_bad_rows_name_the_line(root: Path, row: object, message: str) -> None:
    (root / "POPE" / "coco_pope_random.json").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        load_named(root, "pope/random")
