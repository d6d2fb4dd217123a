import csv
from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.read import tsv
from model_ext.eval.read.tsv import SHORT_ANSWER, read_tsv

PNG = "iVBOR" + "A" * 100


def write_tsv(path: Path, header: str, *rows: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header.split(), *rows])
    return path


def test_pictures_references_and_lists(tmp_path: Path) -> None:
    path = write_tsv(
        tmp_path / "x.tsv",
        "index image question answer",
        ["0", "1", "forward reference", "a"],
        ["1", PNG, "two\nlines", "['a', 'b', 3]"],
        ["2", f"['{PNG}', '/9j/{PNG}']", "two pictures", "[broken"],
        ["3", "", "no picture", "a"],
    )
    items = list(read_tsv(path, "free"))
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[0].image == items[1].image == f"data:image/png;base64,{PNG}"
    assert items[1].question == "two\nlines"
    assert items[1].answers == ["a", "b", "3"]
    assert items[2].answers == ["[broken"]
    assert [uri.split(";")[0] for _, uri in items[2].media()] == [
        "data:image/png",
        "data:image/jpeg",
    ]


def test_a_cell_of_a_megabyte(tmp_path: Path) -> None:
    image = PNG + "A" * 1_000_000
    path = write_tsv(tmp_path / "x.tsv", "index image question answer", ["0", image, "Q", "a"])
    assert len(str(next(read_tsv(path, "free")).image)) > 1_000_000


def test_options_become_choices(tmp_path: Path) -> None:
    header = "index image question answer A B C hint split"
    row = ["0", PNG, "Which?", "B", "left", "right", "", "Look.", "test"]
    (item,) = read_tsv(write_tsv(tmp_path / "x.tsv", header, row), "free", short_answer=True)
    assert item.question == "Question: Which?\nOptions: left right\n" + SHORT_ANSWER
    assert item.answers == ["right"]
    assert item.model_dump()["hint"] == "Look."


def test_mme_rows_pair_by_image_path_within_the_category(tmp_path: Path) -> None:
    header = "index image image_path question answer category"
    rows = [[str(n), PNG, "a.png", "Q", "Yes", "color"] for n in range(2)]
    items = list(read_tsv(write_tsv(tmp_path / "x.tsv", header, *rows), "MME"))
    assert [(item.task, item.pair) for item in items] == [("MME/color", "a.png")] * 2


def test_image_paths_are_below_the_folder(tmp_path: Path) -> None:
    header = "index image_path question answer"
    (tmp_path / "a.png").touch()
    path = write_tsv(tmp_path / "x.tsv", header, ["0", "a.png", "Q", "a"])
    assert next(read_tsv(path, "free")).image == str(tmp_path / "a.png")
    path = write_tsv(tmp_path / "x.tsv", header, ["0", "/etc/hostname", "Q", "a"])
    with pytest.raises(DataError, match="not a path below"):
        list(read_tsv(path, "free"))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("index image question", [], "row 1: the header has no column answer"),
        ("index question answer", [], "the header has no column image or image_path"),
        ("index image question answer", [["0", PNG, "Q"]], "row 2: has 3 cells; the header has 4"),
        ("index image question answer", [["0", PNG, "Q", "a"]] * 2, "row 3: the index '0'"),
        ("index image question answer", [["0", "9", "Q", "a"]], "row 2: the image refers to '9'"),
        (
            "index image question answer",
            [["0", "x" * 99, "Q", "a"]],
            "row 2: the image is not base64",
        ),
        ("index image question answer", [["0", "0", "Q", "a"]], "refers to '0'"),
    ],
)
def test_bad_files_are_named(
    header: str, rows: list[list[str]], message: str, tmp_path: Path
) -> None:
    path = write_tsv(tmp_path / "x.tsv", header, *rows)
    with pytest.raises(DataError, match=message):
        list(read_tsv(path, "free"))


def test_literals_are_never_evaluated(tmp_path: Path) -> None:
    hostile = ["[__import__('os').getcwd()]", "[" * 5000 + "]" * 5000, "[1, [2]]", "[]"]
    rows = [[str(n), PNG, "Q", text] for n, text in enumerate(hostile)]
    path = write_tsv(tmp_path / "x.tsv", "index image question answer", *rows)
    assert [item.answers for item in read_tsv(path, "free")] == [[text] for text in hostile]


def test_cells_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = csv.field_size_limit(10)
    try:
        monkeypatch.setattr(tsv, "MAX_FIELD_CHARACTERS", 50)
        path = write_tsv(tmp_path / "x.tsv", "index image question answer", ["0", PNG, "Q", "a"])
        with pytest.raises(DataError, match="field larger than"):
            list(read_tsv(path, "free"))
    finally:
        csv.field_size_limit(limit)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"index\n"])
def test_rejects_files_that_are_no_tables(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(data)
    with pytest.raises(DataError):
        list(read_tsv(path, "free"))
