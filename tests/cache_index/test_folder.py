"""A build that is killed goes on; a build of something else starts anew."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_index import build
from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.folder import locked


class Killed(BaseException):
    """As SIGKILL would: none of our handlers catches it."""


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
    assert done_again[0] == 0  # the vectors
    assert done_again[1] == (stage == 1)  # training
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "c"}
    for name in ("index.faiss", "vectors.npy"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "c")) == ["index.faiss", "manifest.json", "vectors.npy"]


@pytest.mark.parametrize("change", ["option", "file"])
def test_other_inputs_start_anew(sources: Path, tmp_path: Path, change: str) -> None:
    features = tmp_path / "features.npy"
    features.write_bytes((sources / "features.npy").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, "finish", then=Killed)
        with pytest.raises(Killed):
            run(tmp_path, tmp_path / "c")
    if change == "file":
        np.save(features, np.load(features)[:300])
    with pytest.MonkeyPatch.context() as patch:
        calls = counted(patch, "write_vectors")
        run(tmp_path, tmp_path / "c", **({"dtype": "float16"} if change == "option" else {}))
        assert calls() == 1


def test_two_builds_of_one_folder(sources: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".c.partial"
    partial.mkdir()
    with locked(partial), pytest.raises(CacheError, match="another process is building"):
        run(sources, tmp_path / "c")
    run(sources, tmp_path / "c")
