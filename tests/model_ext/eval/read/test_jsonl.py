import json
from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.read import files
from model_ext.eval.read.jsonl import read_jsonl

ROW = {"id": "1", "task": "free", "question": "Q?", "answers": ["a"]}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("modality", ["image", "audio", "video", "point", "depth"])
def test_media_are_relative_to_the_file(modality: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    media = ["a.bin", "data:image/png;base64,AA=="]
    path = write_rows(tmp_path / "x.jsonl", {**ROW, modality: media, "extra": 3})
    (item,) = read_jsonl(path)
    assert list(item.media()) == [(modality, str(tmp_path / "a.bin")), (modality, media[1])]
    assert item.model_dump()["extra"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "id"),
        ({"answers": "a"}, "answers"),
        ({"image": "absent.png"}, "does not exist"),
        ({"image": "../x.png"}, "not a path below"),
        ({"image": "/etc/hostname"}, "not a path below"),
        ({"image": "a" * 5000}, "does not exist"),
        ({"image": "a\0b"}, "not a path below"),
        ({"image": "http://host/a.png"}, "does not exist"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_a_bad_row_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", ROW, {**ROW, "id": "2"} | change)
    with pytest.raises(DataError, match=message) as error:
        list(read_jsonl(path))
    assert f"{path}, row 2" in str(error.value)


def test_rejects_repeated_ids(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: the id '1' is repeated"):
        list(read_jsonl(write_rows(tmp_path / "x.jsonl", ROW, ROW)))


@pytest.mark.parametrize("line", [b"\xff\xfe", b"{", b"3", b"[" * 100_000])
def test_rejects_lines_that_are_no_objects(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(DataError, match="row 1"):
        list(read_jsonl(path))


def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("12345678\n")
    assert files.read_text(path, 9) == "12345678\n"
    with pytest.raises(DataError, match="larger than 8 bytes"):
        files.read_text(path, 8)
    with pytest.raises(DataError, match="longer than 8 bytes"):
        list(files.read_lines(path, 8))
    with pytest.raises(DataError, match="cannot be read"):
        files.read_text(tmp_path / "absent")
