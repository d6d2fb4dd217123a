"""Widening float16 by its bits: every finite number there is, and rows gathered from a map."""

from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.vectors import Vectors, as_float32


def test_every_finite_half() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert len(halves) == 63488
    wide = as_float32(halves.reshape(-1, 2))
    assert wide.dtype == np.float32
    assert np.array_equal(
        wide.view(np.uint32), halves.astype(np.float32).reshape(-1, 2).view(np.uint32)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gather(dtype: type, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(dtype)
    np.save(tmp_path / "v.npy", rows)
    vectors = Vectors(np.load(tmp_path / "v.npy", mmap_mode="r"))
    ids = np.array([[0, 49, 7], [-1, 7, 7]])
    got = vectors.gather(ids)
    assert got.shape == (2, 3, 8)
    assert got.dtype == np.float32
    assert np.array_equal(got[ids >= 0], rows[ids[ids >= 0]].astype(np.float32))
    got += 1  # ours to change: the file is not


def test_numbers_that_do_not_fit_float16(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.full((3, 8), 1e5, np.float32))
    with pytest.raises(CacheError, match="do not fit float16"):
        build_from_features(
            tmp_path / "f.npy", tmp_path / "c", dtype="float16", normalized=False, progress=False
        )
