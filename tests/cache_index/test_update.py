"""After adding or removing rows, a cache answers like one that was built from the same rows."""

from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.index import CacheIndex
from cache_index.manifest import read_manifest
from cache_index.owner import IndexOwner
from cache_index.update import add_features, find_rows, remove_rows

KINDS = ["Flat", "IVF4,Flat", "IVF4,SQfp16", "IVF4,SQ8", "IVF4,PQ4", "IVF4,PQ12x4fs"]


def make(features: Array, folder: Path, kind: str, *, captions: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "f.npy", features)
    if captions:
        lines = "".join(f'{{"id": "id-{row[0]:.6f}"}}\n' for row in features)
        (folder / "f.jsonl").write_text(lines)
    build_from_features(folder / "f.npy", folder / "c", kind=kind, recall=0.95, progress=False)
    return folder / "c"


def every_row(index: CacheIndex, queries: Array) -> Array:
    """Search all cells. Returns the vectors of the results, because an update may change row
    numbers.
    """
    index.searcher.apply(index.manifest.search.model_copy(update={"refine": 32}))
    if index.manifest.search.nprobe:
        index.searcher.index.nprobe = 4
    return index.search(queries, 10).vectors


@pytest.mark.parametrize("kind", KINDS)
def test_removed_rows_are_gone_and_the_others_are_found(
    kind: str, features: Array, queries: Array, tmp_path: Path
) -> None:
    folder = make(features, tmp_path, kind)
    gone = list(range(0, 400, 3))
    manifest = remove_rows(folder, gone, progress=False)
    left = np.delete(features, gone, axis=0)
    index = CacheIndex.open(folder)
    assert manifest.count == len(index) == len(left)
    assert manifest.recall is None
    np.testing.assert_allclose(index.gather(np.arange(len(left))), left, atol=1e-6)
    assert [index.captions[i].id for i in (0, 200)] == [f"id-{left[i][0]:.6f}" for i in (0, 200)]
    exact = left[np.argsort(-queries @ left.T, axis=1)[:, :10]]
    np.testing.assert_allclose(every_row(index, queries), exact, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_added_rows_are_found(kind: str, features: Array, queries: Array, tmp_path: Path) -> None:
    folder = make(features[:300], tmp_path, kind)
    np.save(tmp_path / "new.npy", 3 * features[300:])
    manifest = add_features(folder, tmp_path / "new.npy", progress=False)
    index = CacheIndex.open(folder)
    assert manifest.count == len(index) == 400
    np.testing.assert_allclose(index.gather(np.arange(400)), features, atol=1e-6)
    assert index.captions[299].id is not None
    assert index.captions[300].id is None  # the added rows have no captions
    exact = features[np.argsort(-queries @ features.T, axis=1)[:, :10]]
    np.testing.assert_allclose(every_row(index, queries), exact, atol=1e-6)


def test_captions_for_the_new_rows_only(features: Array, tmp_path: Path) -> None:
    folder = make(features[:300], tmp_path, "Flat", captions=False)
    np.save(tmp_path / "new.npy", features[300:])
    (tmp_path / "new.txt").write_text("new\n" * 100)
    add_features(folder, tmp_path / "new.npy", captions=tmp_path / "new.txt", progress=False)
    index = CacheIndex.open(folder)
    assert [index.captions[i].caption for i in (0, 299, 300, 399)] == [None, None, "new", "new"]


def test_there_and_back_is_the_same(features: Array, tmp_path: Path) -> None:
    folder = make(features[:300], tmp_path, "IVF4,Flat")
    before = read_manifest(folder)
    np.save(tmp_path / "new.npy", features[300:])
    (tmp_path / "new.jsonl").write_text('{"id": "new"}\n' * 100)
    add_features(folder, tmp_path / "new.npy", progress=False)
    rows = find_rows(folder, ["new"])
    assert rows == list(range(300, 400))
    after = remove_rows(folder, rows, progress=False)
    assert after.files["vectors.npy"] == before.files["vectors.npy"]
    assert after.files["captions.jsonl"] == before.files["captions.jsonl"]
    assert after.search == before.search


def test_what_is_refused(features: Array, tmp_path: Path) -> None:
    folder = make(features[:50], tmp_path, "Flat")
    before = (folder / "manifest.json").read_bytes()
    np.save(tmp_path / "narrow.npy", np.ones((3, 7), np.float32))
    with pytest.raises(CacheError, match=r"narrow\.npy: rows of 7 numbers, the cache's have 24"):
        add_features(folder, tmp_path / "narrow.npy", progress=False)
    with pytest.raises(CacheError, match="no row 50"):
        remove_rows(folder, [3, 50], progress=False)
    with pytest.raises(CacheError, match="this would remove all rows"):
        remove_rows(folder, range(50), progress=False)
    with pytest.raises(CacheError, match="no row has the id 'missing'"):
        find_rows(folder, ["missing"])
    np.save(tmp_path / "bad.npy", np.full((3, 24), np.nan, np.float32))
    with pytest.raises(CacheError, match=r"bad.npy: row 0"):
        add_features(folder, tmp_path / "bad.npy", progress=False)
    assert (folder / "manifest.json").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"c"}


def test_an_open_cache_goes_over_without_losing_a_request(features: Array, tmp_path: Path) -> None:
    folder = make(features[:200], tmp_path, "Flat")
    owner = IndexOwner(CacheIndex.open(folder), max_batch=4)
    params = owner.defaults
    futures = [owner.submit(features[300], params) for _ in range(50)]
    np.save(tmp_path / "new.npy", features[200:])
    add_features(folder, tmp_path / "new.npy", progress=False)
    futures += [owner.submit(features[300], params) for _ in range(50)]
    owner.swap(CacheIndex.open(folder))
    last = owner.submit(features[300], params)
    owner.close()
    assert all(len(future.result().ids) == 10 for future in futures)
    assert last.result().ids[0] == 300
