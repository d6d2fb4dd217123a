"""Read the features from which a cache is built, in blocks, so that they need not fit into memory.

A source is a .npy or .safetensors file, a folder of such files, or a FAISS index.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from cache_index.captions import Caption, read_captions
from cache_index.enhance import Array
from cache_index.errors import CacheError

BLOCK_ROWS = 16384  # Number of rows that are read at a time: 64 MiB of float32 for 1024 dimensions.
FLOATS = {"F16", "F32", "F64"}  # Float types that NumPy supports.


class Features(Protocol):
    """A source of N rows of D numbers. Error messages name its `path`."""

    path: Path
    count: int
    dimension: int

    def blocks(self) -> Iterator[Array]:
        """Yield all rows in order, in float32 blocks of at most BLOCK_ROWS rows."""

    def captions(self) -> Iterator[Caption] | None:
        """Return the captions of the rows, or None if there are none."""


def open_features(path: Path) -> Features:
    if path.is_dir():
        return ShardedFeatures.open(path)
    return FeatureFile.open(path)


def checked(source: Features) -> Iterator[Array]:
    row = 0
    for block in source.blocks():
        sound = np.isfinite(block).all(axis=1) & (block != 0).any(axis=1)
        if not sound.all():
            wrong = row + int(np.argmin(sound))
            raise CacheError(f"{source.path}: row {wrong} is all zero or holds NaN or infinity")
        row += len(block)
        yield block


def draw(features: Features, count: int, seed: int) -> Array:
    """Draw at most `count` random rows (B, D), in random order."""
    order = np.random.default_rng(seed).permutation(features.count)[:count]
    rows: Array = np.empty((len(order), features.dimension), np.float32)
    start = 0
    for block in checked(features):
        here = (start <= order) & (order < start + len(block))
        rows[here] = block[order[here] - start]
        start += len(block)
    return rows


class FeatureFile:
    """One array (N, D) in an .npy or .safetensors file, memory-mapped."""

    def __init__(self, path: Path, rows: Any) -> None:
        self.path = path
        self.count, self.dimension = rows.shape
        self._rows = rows  # slicing reads only the sliced rows from disk

    @classmethod
    def open(cls, path: Path) -> "FeatureFile":
        rows = map_tensor(path) if path.suffix == ".safetensors" else map_npy(path)
        if len(rows.shape) != 2 or 0 in rows.shape:
            raise CacheError(f"{path}: features must have the shape (N, D), got {rows.shape}")
        return cls(path, rows)

    def blocks(self) -> Iterator[Array]:
        for start in range(0, self.count, BLOCK_ROWS):
            # safetensors rejects a slice that ends beyond the last row
            stop = min(start + BLOCK_ROWS, self.count)
            yield np.asarray(self._rows[start:stop], dtype=np.float32)

    def captions(self) -> Iterator[Caption] | None:
        beside = self.path.with_suffix(".jsonl")
        return read_captions(beside) if beside.is_file() else None


class ShardedFeatures:
    """A folder of feature files, in the order of their names."""

    def __init__(self, path: Path, shards: Sequence[FeatureFile]) -> None:
        self.path = path
        self.count = sum(shard.count for shard in shards)
        self.dimension = shards[0].dimension
        self._shards = shards

    @classmethod
    def open(cls, path: Path) -> "ShardedFeatures":
        names = sorted(p for p in path.iterdir() if p.suffix in (".npy", ".safetensors"))
        shards = [FeatureFile.open(name) for name in names]
        if not shards:
            raise CacheError(f"{path}: no .npy or .safetensors file in this folder")
        for shard in shards:
            if shard.dimension != shards[0].dimension:
                raise CacheError(
                    f"{shard.path}: rows of {shard.dimension} numbers, "
                    f"{shards[0].path.name} has {shards[0].dimension}"
                )
        return cls(path, shards)

    def blocks(self) -> Iterator[Array]:
        for shard in self._shards:
            yield from shard.blocks()

    def captions(self) -> Iterator[Caption] | None:
        """Return all shards' captions, or None if no shard has captions.

        Raises CacheError: when some shards have captions and others have none.
        """
        without = [s.path for s in self._shards if not s.path.with_suffix(".jsonl").is_file()]
        if len(without) == len(self._shards):
            return None
        if without:
            raise CacheError(f"{without[0]}: has no captions (.jsonl file), but other shards do")
        return (caption for shard in self._shards for caption in exactly(shard))


def exactly(shard: FeatureFile) -> Iterator[Caption]:
    """Read a shard's captions and check that their number equals the number of its rows."""
    captions = list(shard.captions() or ())
    if len(captions) != shard.count:
        raise CacheError(
            f"{shard.path}: {len(captions)} captions beside it for {shard.count} features"
        )
    yield from captions


class IndexFeatures:
    """The vectors of an existing FAISS index, such as a released knn.index."""

    def __init__(self, path: Path, index: Any) -> None:
        self.path = path
        self.count, self.dimension = index.ntotal, index.d
        self._index = index
        if hasattr(index, "make_direct_map"):
            try:
                # an IVF index needs this table to return a row by its number
                index.make_direct_map()
            except RuntimeError:
                raise CacheError(f"{path}: its ids are not the row numbers 0 to N-1") from None

    def blocks(self) -> Iterator[Array]:
        for start in range(0, self.count, BLOCK_ROWS):
            yield self._index.reconstruct_n(start, min(BLOCK_ROWS, self.count - start))

    def captions(self) -> None:
        return None


def map_npy(path: Path) -> Any:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(f"{path}: not a readable .npy file ({error})") from None
    if not isinstance(rows, np.ndarray):
        raise CacheError(f"{path}: an archive of several arrays; give one .npy file")
    if rows.dtype.kind != "f":
        raise CacheError(f"{path}: features must be floats, got {rows.dtype}")
    return rows


def map_tensor(path: Path) -> Any:
    try:
        # not closed, because the slice reads the file later
        file: Any = safe_open(path, framework="numpy")
        names = list(file.keys())
        if len(names) != 1:
            raise CacheError(f"{path}: holds {len(names)} tensors; give a file with one")
        rows = file.get_slice(names[0])
    except (OSError, SafetensorError) as error:
        raise CacheError(f"{path}: not a readable .safetensors file ({error})") from None
    if rows.get_dtype() not in FLOATS:
        raise CacheError(f"{path}: features must be one of {FLOATS}, got {rows.get_dtype()}")
    return TensorRows(rows)


class TensorRows:
    """A safetensors slice with a `shape` attribute like NumPy's."""

    def __init__(self, rows: Any) -> None:
        self.shape = tuple(rows.get_shape())
        self._rows = rows

    def __getitem__(self, rows: slice) -> Any:
        return self._rows[rows]
