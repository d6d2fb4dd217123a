"""Writing and reading manifest.json, and comparing the manifest with the files of a folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from model_ext.manifest import MANIFEST, FileEntry, Manifest, ManifestError, sha256, sha256_of

INPUTS = "0" * 64
HELLO = FileEntry(bytes=5, sha256=hashlib.sha256(b"hello").hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        (tmp_path / name).write_bytes(b"hello")
    Manifest(INPUTS, {"a": HELLO, "sub/b": HELLO}).write(tmp_path)
    return tmp_path


def test_it_comes_back(folder: Path) -> None:
    assert Manifest.read(folder) == Manifest(INPUTS, {"a": HELLO, "sub/b": HELLO})
    assert sorted(path.name for path in folder.iterdir()) == ["a", MANIFEST, "sub"]


def test_an_intact_folder(folder: Path) -> None:
    read: list[int] = []
    assert list(Manifest.read(folder).damaged(folder, read.append)) == []
    assert sum(read) == 10


def test_every_difference_is_named(folder: Path) -> None:
    (folder / "a").write_bytes(b"hellO")
    (folder / "sub" / "b").unlink()
    damaged = dict(Manifest.read(folder).damaged(folder))
    assert damaged == {"a": "has another sha256", "sub/b": "is missing"}
    (folder / "a").write_bytes(b"hello!")
    assert dict(Manifest.read(folder).damaged(folder))["a"] == "has 6 bytes instead of 5"


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inputs": "x"}, "inputs"),
        ({"more": 1}, "more"),
        ({"files": {"../a": {"bytes": 1, "sha256": INPUTS}}}, "is not inside"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": INPUTS}}}, "is not inside"),
        ({"files": {"a": {"bytes": -1, "sha256": INPUTS}}}, "files.a.bytes"),
        ({"files": {"a": {"bytes": 1}}}, "files.a.sha256"),
        ({"files": []}, "files"),
    ],
)
def test_broken_manifests_are_refused(folder: Path, change: dict[str, Any], reason: str) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(document | change))
    with pytest.raises(ManifestError, match=reason) as caught:
        Manifest.read(folder)
    assert str(folder / MANIFEST) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 10000])
def test_what_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ManifestError, match=MANIFEST):
        Manifest.read(folder)


def test_an_endless_manifest_is_refused(folder: Path) -> None:
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(ManifestError, match="larger than"):
        Manifest.read(folder)


def test_sha256_of_a_file_and_of_texts(folder: Path) -> None:
    assert sha256(folder / "a") == HELLO.sha256
    assert len({sha256_of(["ab", "c"]), sha256_of(["a", "bc"]), sha256_of(["abc"])}) == 3
