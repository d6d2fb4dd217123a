"""Vectors: reads the cache's features from the memory-mapped file vectors.npy, many rows per call.

The search does not read the features from FAISS's index: a GPU index does not return vectors by id,
and a CPU index returns one vector per call. This module does not depend on the search.
"""

from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.manifest import REBUILD, VECTORS, Manifest

Ids = NDArray[np.int64]

LINE = 32  # Number of float16 values in a CPU cache line of 64 bytes.
BLOCK = 16  # Rows copied together. They fit into the L1 cache, because a row has 2 KB.

# `widen` shifts a signed number, which copies the sign bit. This mask removes the copies.
SIGN_EXPONENT_MANTISSA = np.int32(0x8FFFE000 - (1 << 32))
# float32 and float16 have the exponent biases 127 and 15; their difference is 112.
BIAS = np.float32(2.0**112)


class Vectors:
    def __init__(self, rows: NDArray[np.floating]) -> None:
        self.rows = rows  # Shape (N, D), float32 or float16.
        self.gather(np.zeros(1, np.int64))  # Compiles the loop before the first request.

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
        return cls(rows.view(np.ndarray))  # indexing an ndarray is faster than indexing np.memmap

    def gather(self, ids: Ids) -> Array:
        """Return the rows with the numbers `ids` (...) as float32 (..., D).

        For an id of -1 (no hit), returns an arbitrary row, which the caller ignores. Reads a part
        of several rows before it copies the first row, so that the memory accesses overlap. Raises
        IndexError: for an id past the last row.
        """
        if self.rows.dtype == np.float32:
            _ = self.rows[ids, 0], self.rows[ids, -1]
            return self.rows.take(ids, axis=0, mode="clip")
        out: Array = np.empty((ids.size, self.rows.shape[1]), np.float32)
        gather_half(self.rows.view(np.int16), ids.reshape(-1), out)
        return out.reshape(*ids.shape, out.shape[1])


@njit(nogil=True)  # type: ignore[untyped-decorator]
def gather_half(rows: NDArray[np.int16], ids: Ids, out: Array) -> int:
    """Copy the rows with the numbers `ids` (K,) to `out`, float32 (K, D).

    `rows`: the bits of finite float16 numbers (N, D). The function copies BLOCK rows at a time.
    Before it copies them, it reads one number from each of their CPU cache lines, so that the CPU
    loads several rows at the same time. The function returns the sum of the numbers that it read,
    so that the compiler does not remove these reads.
    """
    for row in ids:
        if not -1 <= row < len(rows):
            raise IndexError("no such row")
    touched = 0
    for first in range(0, len(ids), BLOCK):
        last = min(first + BLOCK, len(ids))
        for d in range(0, rows.shape[1], LINE):
            for k in range(first, last):
                touched += rows[ids[k], d]
        for k in range(first, last):
            widen(rows[ids[k]], out[k])
    return touched


@njit(nogil=True)  # type: ignore[untyped-decorator]
def widen(half: NDArray[np.int16], out: Array) -> None:
    """Convert float16 bits (D,) to float32 (D,).

    A shift of a signed value moves exponent and mantissa to their places in float32, and keeps the
    sign in the first bit. An exact multiplication then corrects the bias of the exponent.
    """
    for d in range(len(half)):
        bits = np.int32(np.int32(half[d]) << 13 & SIGN_EXPONENT_MANTISSA)
        out[d] = bits.view(np.float32) * BIAS
