"""`evaluate`: recall increases with the number of visited cells, and the table marks the settings
of the cache.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.evaluate import Measured, as_table, evaluate, plot, settings_around
from cache_index.manifest import SearchSettings, read_manifest
from cache_index.synthetic import UNSEEN_QUERIES, SyntheticFeatures


@pytest.fixture(scope="module")
def ivf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ivf") / "c"
    source = SyntheticFeatures(3000, 32)
    build_from_features(source, out, kind="IVF64,SQ8", recall=0.9, progress=False)
    return out


@pytest.fixture(scope="module")
def curve(ivf: Path) -> list[Measured]:
    return evaluate(ivf, count=150)


def test_more_cells_find_more(ivf: Path, curve: list[Measured]) -> None:
    recalls = [m.recall for m in curve]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.7 < 0.9 < recalls[-1]
    tuned = [m for m in curve if m.tuned]
    assert [m.settings for m in tuned] == [read_manifest(ivf).search]
    assert tuned[0].recall > 0.87
    for m in curve:
        assert 0 < m.p50_ms <= m.p99_ms
        assert m.queries_per_second > 0


def test_on_queries_of_ones_own(ivf: Path, tmp_path: Path) -> None:
    rows = next(SyntheticFeatures(60, 32, stream=UNSEEN_QUERIES).blocks())
    np.save(tmp_path / "q.npy", rows)
    curve = evaluate(ivf, queries=tmp_path / "q.npy", top_k=5)
    assert curve[-1].recall > 0.9
    np.save(tmp_path / "q.npy", rows[:, :7])
    with pytest.raises(CacheError, match=r"q.npy: rows of 7 numbers, not 32"):
        evaluate(ivf, queries=tmp_path / "q.npy")


def test_a_flat_cache_is_one_exact_point(folder: Path) -> None:
    curve = evaluate(folder, count=50)
    assert len(curve) == 1
    assert curve[0].recall == 1
    assert curve[0].tuned
    with pytest.raises(CacheError, match="top_k"):
        evaluate(folder, top_k=400)


@pytest.mark.parametrize(
    ("nprobe", "cells", "tried"),
    [(6, 4096, [1, 2, 4, 6, 8, 16]), (4, 4, [1, 2, 4]), (1, 64, [1, 2, 4])],
)
def test_settings_around(nprobe: int, cells: int, tried: list[int]) -> None:
    around = settings_around(SearchSettings(nprobe=nprobe, refine=3), cells)
    assert [s.nprobe for s in around] == tried
    assert {s.refine for s in around} == {3}


def test_the_table(curve: list[Measured]) -> None:
    lines = as_table(curve).splitlines()
    assert len(lines) == 2 + len(curve)
    assert sum(" * |" in line for line in lines) == 1


@pytest.mark.parametrize(("name", "start"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml")])
def test_the_plot(curve: list[Measured], tmp_path: Path, name: str, start: bytes) -> None:
    plot(curve, tmp_path / name, title="a cache")
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_plot_without_matplotlib(
    curve: list[Measured], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(CacheError, match="matplotlib"):
        plot(curve, tmp_path / "p.png")
