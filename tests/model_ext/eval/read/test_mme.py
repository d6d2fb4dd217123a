from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.read.mme import read_mme, read_mme_results
from tests.model_ext.eval.read.folders import write

FOLDER = "MME_Benchmark_release_version"
TEXT = "Is it red?\tYes\nIs it blue?\tNo\n\n"


@pytest.mark.parametrize(
    ("texts", "images"), [("questions_answers_YN/", "images/"), ("", "")], ids=["folders", "flat"]
)
def test_both_layouts(texts: str, images: str, tmp_path: Path) -> None:
    top = f"{FOLDER}/scene"
    write(tmp_path, {f"{top}/{texts}{n}.txt": TEXT for n in "ab"})
    write(tmp_path, {f"{top}/{images}a.jpg": None, f"{top}/{images}b.png": None})
    items = list(read_mme(tmp_path, "scene"))
    assert [(item.pair, item.question, item.answers) for item in items] == [
        ("a.jpg", "Is it red?", ["Yes"]),
        ("a.jpg", "Is it blue?", ["No"]),
        ("b.png", "Is it red?", ["Yes"]),
        ("b.png", "Is it blue?", ["No"]),
    ]
    assert len({item.id for item in items}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Is it red?\tYes\n", "has 1 questions"),
        (TEXT + "More?\tNo\n", "has 3 questions"),
        ("Is it red? Yes\nIs it blue?\tNo\n", "row 1"),
        ("Is it red?\tYes\nIs it blue?\tMaybe\n", "row 2"),
    ],
)
def test_rejects_texts_that_are_no_pair(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, {f"{FOLDER}/color/a.txt": text, f"{FOLDER}/color/a.jpg": None})
    with pytest.raises(DataError, match=message):
        list(read_mme(tmp_path, "color"))


def test_rejects_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no texts"):
        list(read_mme(tmp_path, "color"))
    write(tmp_path, {f"{FOLDER}/color/a.txt": TEXT})
    with pytest.raises(DataError, match=r"a\.jpg does not exist"):
        list(read_mme(tmp_path, "color"))


def test_result_files(tmp_path: Path) -> None:
    path = tmp_path / "color.txt"
    path.write_text("a.jpg\tQ1?\tYes\tYes, it is\na.jpg\tQ2?\tNo\t\n")
    assert [answer.answer for answer in read_mme_results(path)] == ["Yes, it is", ""]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.jpg\tQ?\tYes\tyes\n",
        "a.jpg\tQ?\tYes\tyes\nb.jpg\tQ?\tNo\tno\n",
        "a.jpg\tQ?\tYes\n",
        "a.jpg\tQ?\tyes\tyes\n",
    ],
)
def test_rejects_result_files_without_pairs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "color.txt"
    path.write_text(text)
    with pytest.raises(DataError):
        list(read_mme_results(path))
