"""A model folder appears only when it is complete. A later attempt keeps finished files."""

from pathlib import Path

import pytest

from model_ext.manifest import MANIFEST
from model_ext.weights.errors import ConvertError
from model_ext.weights.folder import new_folder, partial_folder


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "models" / "x"
    with new_folder(out) as folder:
        (folder / "a").write_text("a")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    assert [path.name for path in out.parent.iterdir()] == ["x"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "out" / "x").exists()
    assert (tmp_path / "out" / "x").read_text() == "x"


def stop(out: Path, name: str, error: type[BaseException]) -> None:
    """Write a file into a new folder, and raise `error` before the folder is complete."""
    with new_folder(out) as folder:
        (folder / name).write_text("{}")
        raise error


@pytest.mark.parametrize("error", [ConvertError, KeyboardInterrupt, OSError])
def test_nothing_is_left_where_nothing_was_finished(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        stop(tmp_path / "out", "half", error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ConvertError, KeyboardInterrupt, OSError])
def test_what_was_finished_is_kept(tmp_path: Path, error: type[BaseException]) -> None:
    """A second attempt continues with the files that a first, failed attempt has finished."""
    out = tmp_path / "out"
    with pytest.raises(error):
        stop(out, MANIFEST, error)
    assert not out.exists()
    with new_folder(out) as folder:
        assert folder == partial_folder(out)
        assert [path.name for path in folder.iterdir()] == [MANIFEST]


def test_a_full_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConvertError, match="exists already"), new_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
        with (
            pytest.raises(ConvertError, match=r"\S+: another conversion is writing there"),
            new_folder(tmp_path / "out"),
        ):
            pass
        assert (folder / "a").exists()
