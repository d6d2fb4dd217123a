"""`cache shuffle` writes a cache in which a search finds the same rows, but returns the vectors of
other rows.
"""

from pathlib import Path

import numpy as np
import pytest

from cache_index.device import Placement, planned_gpu_bytes
from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.index import CacheIndex
from cache_index.manifest import read_manifest
from cache_index.shuffle import cycle, shuffle


def test_finds_the_same_rows_and_returns_other_vectors(
    index: CacheIndex, queries: Array, tmp_path: Path
) -> None:
    manifest = shuffle(index.folder, tmp_path / "control", seed=3, progress=False)
    control = CacheIndex.open(tmp_path / "control", placement=Placement("cuda"))
    original, shuffled = index.search(queries, 10), control.search(queries, 10)
    assert np.array_equal(np.sort(original.ids), np.sort(shuffled.ids))
    order = cycle(len(index), 3)
    np.testing.assert_array_equal(shuffled.vectors, index.gather(order[shuffled.ids]))
    assert control.captions[7] == index.captions[7]
    assert manifest.encoder == index.manifest.encoder
    assert manifest.name != index.manifest.name
    assert planned_gpu_bytes(manifest, Placement("cuda"), 1 << 40) == 0
    control.close()


def test_no_row_keeps_its_vector() -> None:
    for count in (2, 3, 100):
        order = cycle(count, 0)
        assert sorted(order) == list(range(count))
        assert (order != np.arange(count)).all()
    assert cycle(1, 0).tolist() == [0]


def test_the_manifest_of_a_normal_cache_does_not_change(index: CacheIndex) -> None:
    assert "shuffled" not in index.manifest.model_dump()
    assert "shuffled" not in index.manifest.model_dump_json()


def test_keeps_an_existing_folder(index: CacheIndex, tmp_path: Path) -> None:
    out = tmp_path / "control"
    shuffle(index.folder, out, progress=False)
    with pytest.raises(CacheError, match="exists already"):
        shuffle(index.folder, out, progress=False)
    shuffle(index.folder, out, seed=1, overwrite=True, progress=False)
    assert read_manifest(out).shuffled
