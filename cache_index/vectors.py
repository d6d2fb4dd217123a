"""vectors.npy: the features themselves, memory-mapped, gathered by row number in one call.

FAISS cannot give vectors back by id from a GPU index, and from a CPU index only one by one; a
plain array can. Knows nothing of search.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.manifest import REBUILD, VECTORS, Manifest

Ids = NDArray[np.int64]


class Vectors:
    def __init__(self, rows: NDArray[np.floating]) -> None:
        self.rows = rows  # (N, D) float32 or float16

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> "Vectors":
        path = folder / VECTORS
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise CacheError(f"{path}: not a readable .npy file ({error}); {REBUILD}") from None
        shape, dtype = (manifest.count, manifest.dimension), manifest.vector_dtype
        if rows.shape != shape or rows.dtype != dtype or not rows.flags.c_contiguous:
            raise CacheError(
                f"{path}: holds {rows.dtype} {rows.shape}, its manifest says {dtype} {shape}; "
                f"{REBUILD}"
            )
        return cls(rows)

    def gather(self, ids: Ids) -> Array:
        """Rows of ids (...) as float32 (..., D). An id of -1 (no hit) gives some row: mask it."""
        rows: Array = self.rows[np.maximum(ids, 0)].astype(np.float32, copy=False)
        return rows
