"""A killed build can resume; a build from other inputs does not delete its files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_index import build
from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.folder import locked


class Killed(BaseException):
    """An exception that no handler of cache_index catches, so that a build ends as if killed."""


def run(sources: Path, out: Path, **options: object) -> None:
    build_from_features(
        sources / "features.npy",
        out,
        kind="IVF4,Flat",
        progress=False,
        **options,  # type: ignore[arg-type]
    )


def counted(
    monkeypatch: pytest.MonkeyPatch, name: str, then: type[BaseException] | None = None
) -> Callable[[], int]:
    calls = 0
    original = getattr(build, name)

    def wrapper(*args: object) -> object:
        nonlocal calls
        calls += 1
        if then is not None:
            raise then
        return original(*args)

    monkeypatch.setattr(build, name, wrapper)
    return lambda: calls


STAGES = ["write_vectors", "write_trained", "tune_index", "finish"]


@pytest.mark.parametrize("stage", range(1, 4))
def test_stages_that_were_done_are_not_done_again(
    sources: Path, tmp_path: Path, stage: int
) -> None:
    run(sources, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, STAGES[stage], then=Killed)
        with pytest.raises(Killed):
            run(sources, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.MonkeyPatch.context() as patch:
        calls = [counted(patch, name) for name in STAGES]
        run(sources, tmp_path / "c")
        done_again = [call() for call in calls]
    # A resumed build does not write the vectors again. It trains again only if the first build was
    # killed during training.
    assert done_again[0] == 0
    assert done_again[1] == (stage == 1)
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "c"}
    for name in ("index.faiss", "vectors.npy"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "c")) == ["index.faiss", "manifest.json", "vectors.npy"]


@pytest.mark.parametrize("change", ["option", "file"])
def test_other_inputs_are_refused_and_what_was_done_stays(
    sources: Path, tmp_path: Path, change: str
) -> None:
    """Regression: a build with a mistyped option silently deleted an unfinished folder."""
    features = tmp_path / "features.npy"
    features.write_bytes((sources / "features.npy").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, "finish", then=Killed)
        with pytest.raises(Killed):
            run(tmp_path, tmp_path / "c")
    partial = tmp_path / ".c.partial"
    done = sorted(path.name for path in partial.iterdir())
    assert "vectors.npy" in done
    if change == "file":
        np.save(features, np.load(features)[:300])
    options = {"dtype": "float16"} if change == "option" else {}
    message = r"\.c\.partial: holds an unfinished build .*, or delete that folder to start over"
    with pytest.raises(CacheError, match=message):
        run(tmp_path, tmp_path / "c", **options)
    assert sorted(path.name for path in partial.iterdir()) == done
    shutil.rmtree(partial)
    run(tmp_path, tmp_path / "c", **options)


def test_killed_before_it_could_say_what_it_is(sources: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".c.partial"
    partial.mkdir()
    (partial / "inputs.json.partial").write_text("[")
    run(sources, tmp_path / "c")
    assert sorted(os.listdir(tmp_path / "c")) == ["index.faiss", "manifest.json", "vectors.npy"]


def test_two_builds_of_one_folder(sources: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".c.partial"
    partial.mkdir()
    with locked(partial), pytest.raises(CacheError, match="another process is building"):
        run(sources, tmp_path / "c")
    run(sources, tmp_path / "c")
