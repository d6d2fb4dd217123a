"""Features to build a cache from, read in blocks so that no build holds them all in memory.

Knows the files, not what is done with the rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.errors import CacheError

BLOCK_ROWS = 16384  # 64 MiB of float32 at 1024 dimensions


class Features(Protocol):
    """N rows of D numbers from somewhere; `path` is what error messages name."""

    path: Path
    count: int
    dimension: int

    def blocks(self) -> Iterator[Array]:
        """All rows in order, as float32 blocks of at most BLOCK_ROWS rows."""


class NpyFeatures:
    def __init__(self, path: Path, rows: NDArray[Any]) -> None:
        self.path = path
        self.count, self.dimension = rows.shape
        self._rows = rows

    @classmethod
    def open(cls, path: Path) -> "NpyFeatures":
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CacheError(f"{path}: not a readable .npy file ({error})") from None
        if not isinstance(rows, np.ndarray):
            raise CacheError(f"{path}: an archive of several arrays; give one .npy file")
        if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind != "f":
            raise CacheError(
                f"{path}: features must be floats of shape (N, D), got {rows.dtype} {rows.shape}"
            )
        return cls(path, rows)

    def blocks(self) -> Iterator[Array]:
        for start in range(0, self.count, BLOCK_ROWS):
            yield np.asarray(self._rows[start : start + BLOCK_ROWS], dtype=np.float32)


class IndexFeatures:
    """What an existing FAISS index holds (for a released knn.index that is all there is)."""

    def __init__(self, path: Path, index: Any) -> None:
        self.path = path
        self.count, self.dimension = index.ntotal, index.d
        self._index = index
        if hasattr(index, "make_direct_map"):
            try:
                index.make_direct_map()  # an IVF index cannot tell where a row is without it
            except RuntimeError:
                raise CacheError(f"{path}: its ids are not the row numbers 0 to N-1") from None

    def blocks(self) -> Iterator[Array]:
        for start in range(0, self.count, BLOCK_ROWS):
            yield self._index.reconstruct_n(start, min(BLOCK_ROWS, self.count - start))
