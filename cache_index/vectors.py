"""vectors.npy: the features themselves, memory-mapped, gathered by row number in one call.

FAISS cannot give vectors back by id from a GPU index, and from a CPU index only one by one; a
plain array can. Knows nothing of search.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.manifest import REBUILD, VECTORS, Manifest

Ids = NDArray[np.int64]

SIGN_EXPONENT_MANTISSA = np.int32(0x8FFFE000 - (1 << 32))  # what the shift copied of the sign: off
BIAS = np.float32(2.0**112)  # float32 counts exponents from -127, float16 from -15


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
        return cls(rows.view(np.ndarray))  # still mapped; np.memmap makes every call slower

    def gather(self, ids: Ids) -> Array:
        """Rows of ids (...) as float32 (..., D). An id of -1 (no hit) gives some row: mask it.

        Random rows cost the memory's latency, row after row. One number of each is read first:
        those reads wait for memory together, and the copy then finds where every row begins.
        """
        _ = self.rows[ids, 0]
        return as_float32(np.take(self.rows, ids, axis=0, mode="clip"))  # takes -1 as 0


def as_float32(rows: NDArray[Any]) -> Array:
    """Finite float16 (or float32) as float32.

    NumPy widens float16 number by number, four times slower than this: move exponent and mantissa
    to where float32 has them (the sign stays in front, for the shifted value is signed) and
    correct the exponent's bias by a multiplication, which is exact.
    """
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    bits = rows.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= SIGN_EXPONENT_MANTISSA
    wide: Array = bits.view(np.float32)
    wide *= BIAS
    return wide
