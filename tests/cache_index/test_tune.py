"""Exact neighbors, recall, and the tuned search settings, for every kind of index."""

import re
from pathlib import Path

import numpy as np
import pytest

from cache_index import build, recall
from cache_index.build import build_from_features
from cache_index.enhance import Array, CacheParams
from cache_index.index import CacheIndex
from cache_index.manifest import SearchSettings
from cache_index.recall import exact_neighbors, make_trial, without
from cache_index.tune import Point, frontier

ROWS, DIMENSION = 3000, 32


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write rows without clusters. The neighbors of a row are in many different cells."""
    path = tmp_path_factory.mktemp("hard") / "f.npy"
    rows = np.random.default_rng(5).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    np.save(path, rows)
    return path


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "TUNING_QUERIES", 300)


@pytest.fixture(scope="module")
def rows(hard: Path) -> Array:
    rows = np.load(hard)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_exact_neighbors_over_blocks(rows: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK_ROWS", 7)  # a block then has fewer rows than top_k
    found = exact_neighbors(rows, rows[:20], 12)
    assert np.array_equal(found, np.argsort(-rows[:20] @ rows.T, axis=1)[:, :12])


def test_without_itself() -> None:
    ids = np.array([[4, 2, 9], [7, 4, 1], [3, 8, 5]])
    assert without(ids, np.array([4, 1, 6])).tolist() == [[2, 9], [7, 4], [3, 8]]


def test_own_rows_do_not_count(rows: Array) -> None:
    own = np.array([5, 80])
    trial = make_trial(rows, rows[own], own, 6)
    assert trial.truth.shape == (2, 6)
    assert not (trial.truth == own[:, None]).any()


@pytest.mark.parametrize(
    "kind",
    ["IVF32,Flat", "IVF32,SQfp16", "IVF32,SQ8", "IVF32,PQ8", "IVF32,PQ16x4fs"],
)
def test_every_kind_reaches_its_recall(kind: str, hard: Path, rows: Array, tmp_path: Path) -> None:
    manifest = build_from_features(hard, tmp_path / "c", kind=kind, recall=0.9, progress=False)
    index = CacheIndex.open(tmp_path / "c")
    assert manifest.recall is not None
    assert manifest.recall.value >= 0.9
    assert manifest.recall.queries == 300
    assert manifest.search.nprobe is not None
    assert 1 < manifest.search.nprobe <= 32

    fresh = np.random.default_rng(6).standard_normal((200, DIMENSION)).astype(np.float32)
    neighbors = index.search(fresh, 10)
    truth = exact_neighbors(rows, fresh, 10)
    found = (neighbors.ids[:, :, None] == truth[:, None]).any(axis=1).mean()
    assert found >= 0.85  # the recall for queries that the build did not use
    exact = np.einsum("bd,bkd->bk", fresh, index.gather(neighbors.ids))
    # similarities are computed from the stored vectors, not from the compressed codes
    np.testing.assert_allclose(neighbors.similarity, exact, atol=1e-5)
    assert (np.diff(neighbors.similarity, axis=1) <= 0).all()


def test_refinement_is_what_makes_a_coarse_code_good(
    hard: Path, rows: Array, tmp_path: Path
) -> None:
    build_from_features(hard, tmp_path / "c", kind="IVF4,PQ4", recall=0.9, progress=False)
    index = CacheIndex.open(tmp_path / "c")
    assert index.manifest.search.refine > 1
    trial = make_trial(rows, rows[:200] + 0.1, None, 10)
    searcher = index.searcher
    refined = trial.recall(searcher).mean()
    searcher.apply(SearchSettings(nprobe=index.manifest.search.nprobe, refine=1))
    assert trial.recall(searcher).mean() < refined - 0.2


def test_a_target_out_of_reach_is_said(
    hard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache_index.tune.REFINE", (1,))
    manifest = build_from_features(hard, tmp_path / "c", kind="IVF4,PQ4", progress=False)
    assert manifest.recall is not None
    assert manifest.recall.value < 0.9
    message = r"recall 0\.\d+ is the best that this index reaches; the target is 0\.\d+"
    assert re.search(message, caplog.text)


def test_tuning_on_queries_of_ones_own(sources: Path, features: Array, tmp_path: Path) -> None:
    """Queries between the clusters need more visited cells than queries within the clusters."""
    rng = np.random.default_rng(0)
    nprobe = {}
    for name, queries in {
        "near": features[:200],
        "far": rng.standard_normal((200, features.shape[1])).astype(np.float32),
    }.items():
        np.save(tmp_path / f"{name}.npy", queries)
        manifest = build_from_features(
            sources / "features.npy",
            tmp_path / name,
            kind="IVF8,Flat",
            queries=tmp_path / f"{name}.npy",
            recall=0.9,
            progress=False,
        )
        assert manifest.recall is not None
        assert manifest.recall.queries == 100
        nprobe[name] = manifest.search.nprobe or 0
    assert 0 < nprobe["near"] < nprobe["far"]


def test_the_frontier_drops_what_is_slower_and_worse() -> None:
    def point(recall: float, seconds: float) -> Point:
        return Point(SearchSettings(nprobe=1), recall, 0.0, seconds)

    good, bad, fast = point(0.9, 2.0), point(0.8, 3.0), point(0.5, 1.0)
    assert frontier([good, bad, fast]) == [fast, good]


@pytest.mark.parametrize("kind", ["IVF8,PQ8", "IVF8,PQ8x4fs"])
def test_batch_equals_single_with_refinement(
    kind: str, hard: Path, rows: Array, tmp_path: Path
) -> None:
    build_from_features(hard, tmp_path / "c", kind=kind, dtype="float16", progress=False)
    index = CacheIndex.open(tmp_path / "c")
    params = [CacheParams(top_k=1 + i % 7) for i in range(40)]
    together = index.enhance(rows[:40], params).vectors
    for i in range(40):
        alone = index.enhance(rows[i : i + 1], params[i : i + 1]).vectors
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)
