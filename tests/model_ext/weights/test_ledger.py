"""A resumed conversion keeps finished files of the same inputs, and writes all others again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_ext.manifest import Manifest, nothing
from model_ext.weights.ledger import Ledger

ONE, OTHER = "1" * 64, "2" * 64


def ledger(folder: Path, inputs: str = ONE) -> Ledger:
    return Ledger.open(folder, inputs, nothing)


def never() -> Iterator[bytes]:
    raise AssertionError("it was written already")
    yield b""


def test_a_file_is_recorded_with_its_hash(tmp_path: Path) -> None:
    seen: list[int] = []
    ledger(tmp_path).write("sub/a", [b"hel", memoryview(b"lo")], seen.append)
    assert (tmp_path / "sub" / "a").read_bytes() == b"hello"
    assert seen == [3, 2]
    manifest = Manifest.read(tmp_path)
    assert manifest.inputs == ONE
    assert manifest.files["sub/a"].bytes == 5
    assert manifest.files["sub/a"].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert list(manifest.damaged(tmp_path)) == []


def test_a_finished_file_is_not_written_again(tmp_path: Path) -> None:
    ledger(tmp_path).write("a", [b"hello"])
    seen: list[int] = []
    ledger(tmp_path).write("a", never(), seen.append)
    assert (tmp_path / "a").read_bytes() == b"hello"
    assert sum(seen) == 5  # the progress includes the file that was finished before


def test_a_file_that_was_interrupted_is_written_again(tmp_path: Path) -> None:
    def interrupted() -> Iterator[bytes]:
        yield b"hel"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger(tmp_path).write("a", interrupted())
    assert not (tmp_path / "a").exists()
    ledger(tmp_path).write("a", [b"hello"])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "manifest.json"]


@pytest.mark.parametrize("content", [b"hellO", b"hell", None])
def test_a_damaged_file_is_written_again(tmp_path: Path, content: bytes | None) -> None:
    """A finished file whose content changed, or that is missing, is written again."""
    ledger(tmp_path).write("a", [b"hello"])
    (tmp_path / "a").write_bytes(content) if content else (tmp_path / "a").unlink()
    ledger(tmp_path).write("a", [b"hello"])
    assert (tmp_path / "a").read_bytes() == b"hello"


def test_other_inputs_start_anew(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.write("a", [b"hello"])
    first.write("sub/b", [b"hello"])
    second = ledger(tmp_path, OTHER)
    assert list(tmp_path.iterdir()) == []
    second.write("a", [b"other"])
    assert (tmp_path / "a").read_bytes() == b"other"


def test_a_damaged_record_starts_anew(tmp_path: Path) -> None:
    ledger(tmp_path).write("a", [b"hello"])
    (tmp_path / "manifest.json").write_text("{")
    ledger(tmp_path).write("a", [b"other"])
    assert (tmp_path / "a").read_bytes() == b"other"


def test_small_files_are_written_by_every_run(tmp_path: Path) -> None:
    ledger(tmp_path).rewrite("a", b"hello")
    ledger(tmp_path).rewrite("a", b"other")
    assert (tmp_path / "a").read_bytes() == b"other"
    assert list(Manifest.read(tmp_path).damaged(tmp_path)) == []
