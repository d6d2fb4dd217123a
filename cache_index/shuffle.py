"""Write a copy of a cache for control runs: the same index, but permuted vectors.

If answers with the copy are as good as with the original cache, the cache's content does not
improve the answers. A search of the copy mixes in the vectors of other rows than it finds. In an
index with exact similarities (Flat, IVFn,Flat), it finds the same rows as in the original cache. In
a compressed index, it can find other rows, because candidates are not ranked again by their
vectors.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from cache_index.build import finish, npy_header
from cache_index.enhance import Array
from cache_index.folder import new_folder, write_once
from cache_index.manifest import (
    CAPTIONS,
    INDEX,
    OFFSETS,
    VECTORS,
    Manifest,
    SearchSettings,
    check_files,
    read_manifest,
)
from cache_index.vectors import Ids, Vectors

BLOCK_ROWS = 1 << 14


def shuffle(
    folder: Path, out: Path, *, seed: int = 0, overwrite: bool = False, progress: bool = True
) -> Manifest:
    """Write the cache to `out` with permuted vectors; no row keeps its vector.

    Raises CacheError: when the cache is damaged, or `out` exists and `overwrite` is False.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest, verify=True)
    rows = Vectors.open(folder, manifest).rows
    order = cycle(len(rows), seed)
    inputs = f"shuffle {manifest.name} with seed {seed}"
    with new_folder(out, inputs=inputs, overwrite=overwrite) as new:
        write_once(new / VECTORS, lambda path: write_permuted(path, rows, order))
        for name in (INDEX, CAPTIONS, OFFSETS):
            if name in manifest.files:
                write_once(new / name, partial(shutil.copyfile, folder / name))
        # Disable `refine`, with which the search would rank candidates by the permuted vectors.
        search = SearchSettings(nprobe=manifest.search.nprobe)
        changes = {"shuffled": True, "search": search, "recall": None}
        # the name of a manifest is a hash of its content
        draft = Manifest.model_validate(manifest.model_dump() | changes)
        return finish(new, draft, progress)


def cycle(count: int, seed: int) -> Ids:
    """Return a random permutation of `count` rows. No row keeps its place, unless `count` is 1."""
    order = np.random.default_rng(seed).permutation(count)
    result: Ids = np.empty(count, dtype=np.int64)
    result[order] = np.roll(order, 1)
    return result


def write_permuted(path: Path, rows: Array, order: Ids) -> None:
    with path.open("wb") as file:
        file.write(npy_header(rows.shape, rows.dtype))
        for start in range(0, len(order), BLOCK_ROWS):
            file.write(rows[order[start : start + BLOCK_ROWS]].tobytes())
