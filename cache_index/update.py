"""Add features to a cache, or remove some, without training the index again.

A new folder is written, and replaces the old folder when it is complete. A process that has opened
the cache uses the old data until it opens the cache again (in a service: POST /v1/reload). The new
manifest keeps the search settings and omits the recall, which was measured on other rows. The cells
of the index stay the same. Therefore, build the cache again after adding many rows that differ from
the old rows.
"""

from collections.abc import Collection, Iterator
from itertools import chain, compress, repeat
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.build import (
    add_blocks,
    bar,
    describe_inputs,
    finish,
    write_lines,
    write_vectors,
)
from cache_index.captions import Caption, Captions, read_captions
from cache_index.enhance import Array, normalize
from cache_index.errors import CacheError
from cache_index.features import BLOCK_ROWS, Features, checked, open_features
from cache_index.folder import new_folder, write_once
from cache_index.manifest import CAPTIONS, INDEX, VECTORS, Manifest, check_files, read_manifest
from cache_index.reader import read_index
from cache_index.vectors import Ids, Vectors

Mask = NDArray[np.bool_]


def add_features(
    folder: Path,
    features: Path,
    *,
    captions: Path | None = None,
    normalized: bool = True,
    progress: bool = True,
) -> Manifest:
    """Append rows. `build_from_features` describes the arguments."""
    old = checked_manifest(folder)
    new = open_features(features)
    if new.dimension != old.dimension:
        raise CacheError(
            f"{features}: rows of {new.dimension} numbers, the cache's have {old.dimension}"
        )
    everything = np.ones(old.count, dtype=bool)
    source = KeptRows(folder, old, everything, then=new, normalized=normalized)
    lines = read_captions(captions) if captions else new.captions()
    kept = kept_captions(folder, old, everything)
    if lines is not None or kept is not None:
        lines = chain(kept or repeat(Caption(), old.count), lines or repeat(Caption(), new.count))
    inputs = describe_inputs(features, new, f"add to {old.name}", old.vector_dtype, normalized)
    with new_folder(folder, inputs=inputs, overwrite=True) as out:
        write_stored(out, source, old, progress)

        def extend(path: Path) -> None:
            index = read_index(folder / INDEX)
            rows = np.load(out / VECTORS, mmap_mode="r", allow_pickle=False)[old.count :]
            with bar(new.count, "index", progress) as done:
                add_blocks(index, rows, done)
            faiss.write_index(index, str(path))

        write_once(out / INDEX, extend)
        write_lines(out, lines, source.count, captions or features)
        return finish(out, changed(old, source.count), progress)


def remove_rows(folder: Path, rows: Collection[int], *, progress: bool = True) -> Manifest:
    """Remove rows. The row numbers after a removed row decrease."""
    old = checked_manifest(folder)
    if outside := [row for row in rows if not 0 <= row < old.count]:
        raise CacheError(f"{folder}: has no row {outside[0]}, only 0 to {old.count - 1}")
    keep = np.ones(old.count, dtype=bool)
    keep[list(rows)] = False
    if not keep.any():
        raise CacheError(f"{folder}: this would remove all rows; delete the folder instead")
    source = KeptRows(folder, old, keep)
    inputs = f"remove {sorted(rows)} from {old.name}"
    with new_folder(folder, inputs=inputs, overwrite=True) as out:
        write_stored(out, source, old, progress)

        def shrink(path: Path) -> None:
            index = read_index(folder / INDEX)
            remove_from(index, keep)
            faiss.write_index(index, str(path))

        write_once(out / INDEX, shrink)
        write_lines(out, kept_captions(folder, old, keep), source.count, folder)
        return finish(out, changed(old, source.count), progress)


def find_rows(folder: Path, ids: Collection[str]) -> list[int]:
    """Return the rows whose captions have these ids. Raises CacheError: when no row has one of the
    ids; the message names the id.
    """
    old = read_manifest(folder)
    names, captions = set(ids), Captions.open(folder, old)
    rows = [row for row in range(old.count) if captions[row].id in names]
    if missing := names - {captions[row].id for row in rows}:
        raise CacheError(f"{folder}: no row has the id {min(missing)!r}")
    return rows


class KeptRows:
    """The features of the updated cache: the rows of the old cache that are kept, and then the new
    rows.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        keep: Mask,
        *,
        then: Features | None = None,
        normalized: bool = False,
    ) -> None:
        self.path = folder
        self.count = int(keep.sum()) + (then.count if then else 0)
        self.dimension = manifest.dimension
        self._rows = Vectors.open(folder, manifest).rows
        self._keep = keep
        self._then = then
        self._normalized = normalized

    def blocks(self) -> Iterator[Array]:
        for start in range(0, len(self._keep), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            yield self._rows[part][self._keep[part]].astype(np.float32)
        for block in checked(self._then) if self._then else ():
            yield normalize(block) if self._normalized else block

    def captions(self) -> None:
        return None


def remove_from(index: Any, keep: Mask) -> None:
    """Remove rows from the index in place. Afterwards, the id of each row is its new row number."""
    gone: Ids = np.flatnonzero(~keep)
    index.remove_ids(gone)
    if not isinstance(index, faiss.IndexIVF):
        return  # FAISS renumbers the rows of a flat index.
    moved = np.cumsum(keep) - 1  # Maps old row numbers to new row numbers.
    lists: Any = index.invlists
    for cell in range(index.nlist):
        ids = faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell))
        ids[:] = moved[ids]


def checked_manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    check_files(folder, manifest, verify=True)
    return manifest


def kept_captions(folder: Path, manifest: Manifest, keep: Mask) -> Iterator[Caption] | None:
    if CAPTIONS not in manifest.files:
        return None
    captions = Captions.open(folder, manifest)
    return (captions[row] for row in compress(range(manifest.count), keep))


def write_stored(out: Path, source: Features, old: Manifest, progress: bool) -> None:
    with bar(source.count, "vectors", progress) as done:
        write_once(
            out / VECTORS, lambda path: write_vectors(path, source, old.vector_dtype, False, done)
        )


def changed(old: Manifest, count: int) -> Manifest:
    return old.model_copy(update={"count": count, "recall": None})
