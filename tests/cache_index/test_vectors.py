"""`Vectors` reads rows from a memory-mapped file, and converts float16 to float32 exactly."""

from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.index import CacheIndex
from cache_index.vectors import Vectors, gather_half


def test_every_finite_half() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert len(halves) == 63488
    wide = Vectors(halves.reshape(-1, 2)).gather(np.arange(len(halves) // 2))
    assert wide.dtype == np.float32
    assert np.array_equal(
        wide.view(np.uint32), halves.astype(np.float32).reshape(-1, 2).view(np.uint32)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gather(dtype: type, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 72)).astype(dtype)
    np.save(tmp_path / "v.npy", rows)
    vectors = Vectors(np.load(tmp_path / "v.npy", mmap_mode="r"))
    ids = np.array([[0, 49, 7], [-1, 7, 7]])
    got = vectors.gather(ids)
    assert got.shape == (2, 3, 72)
    assert got.dtype == np.float32
    assert np.array_equal(got[ids >= 0], rows[ids[ids >= 0]].astype(np.float32))
    got += 1  # The result is a copy, which callers may change.
    many = np.random.default_rng(1).integers(50, size=35)  # 35 rows: 2 blocks of 16, and 3 more.
    assert np.array_equal(vectors.gather(many), rows[many].astype(np.float32))
    assert vectors.gather(np.zeros((2, 0), np.int64)).shape == (2, 0, 72)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("id", [3, -4, 1 << 40, -(1 << 40)])
def test_an_id_that_a_foreign_index_made_up(dtype: type, id: int) -> None:
    vectors = Vectors(np.ones((3, 8), dtype))
    with pytest.raises(IndexError):
        vectors.gather(np.array([[0, id]]))


def test_rows_of_two_kilobytes_lie_in_one_page_each(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.eye(4, 1024, dtype=np.float32))
    build_from_features(tmp_path / "f.npy", tmp_path / "c", dtype="float16", progress=False)
    rows = np.load(tmp_path / "c/vectors.npy", mmap_mode="r")
    assert rows.offset == 4096
    assert np.array_equal(rows, np.eye(4, 1024))


def test_no_request_waits_for_the_compiler(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    np.save(tmp_path / "f.npy", features)
    build_from_features(tmp_path / "f.npy", tmp_path / "c", dtype="float16", progress=False)
    index = CacheIndex.open(tmp_path / "c")
    compiled = list(gather_half.signatures)
    assert compiled
    index.search(features[:3], 5)
    index.search(features[:1], 50)
    assert gather_half.signatures == compiled


def test_numbers_that_do_not_fit_float16(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.full((3, 8), 1e5, np.float32))
    with pytest.raises(CacheError, match="do not fit float16"):
        build_from_features(
            tmp_path / "f.npy", tmp_path / "c", dtype="float16", normalized=False, progress=False
        )
