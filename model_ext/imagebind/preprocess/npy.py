"""Read .npy files from bytes: check the header against the length of the data; reject pickles.

This module does not depend on the modality.
"""

import ast
import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError

MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # maximum number of bytes of the header

# The accepted dtypes: real numbers, but no objects and no structures.
REAL = re.compile(r"[<>|=]?(f[248]|[iu][1248])")

Header = tuple[tuple[int, ...], bool, np.dtype[Any], int]

DAMAGED = "the .npy file is damaged"


def npy_shape(data: bytes) -> tuple[int, ...] | None:
    """Return the shape that the header declares, or None if `read_npy` would reject the header."""
    try:
        return _header(data)[0]
    except DecodeError:
        return None


def read_npy(data: bytes, max_elements: int) -> NDArray[np.float32]:
    """Read real numbers as float32. Raises as `read_exact` does."""
    # A number too large for float32 becomes infinite; the caller rejects infinite values.
    with np.errstate(over="ignore", invalid="ignore"):
        return read_exact(data, max_elements).astype(np.float32, order="C")


def read_exact(data: bytes, max_elements: int) -> NDArray[Any]:
    """Read real numbers in the file's dtype.

    Raises DecodeError: when the header does not agree with the length of the data.
    """
    shape, fortran, dtype, offset = _header(data)
    count = 1
    for size in shape:
        count *= size  # Python's integers cannot overflow
    if count > max_elements:
        raise DecodeError(f"the .npy file has more than {max_elements} elements")
    if count * dtype.itemsize != len(data) - offset:
        raise DecodeError("the .npy file's header does not agree with its length")
    flat = np.frombuffer(data, dtype, count, offset)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(data: bytes) -> Header:
    """Parse the magic bytes, version, header length and header."""
    if not data.startswith(MAGIC):
        raise DecodeError("this is not a .npy file")
    wide = data[6:7] != b"\x01"  # from version 2 on, the length has four bytes
    begin = 12 if wide else 10
    end = begin + int.from_bytes(data[8:begin], "little")
    if end > len(data) or end - begin > MAX_HEADER:
        raise DecodeError(DAMAGED)
    return *_fields(data[begin:end]), end


@lru_cache(maxsize=64)  # many files have equal headers, and the parser is slow
def _fields(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse the header, a Python dict in ASCII. Returns shape, Fortran order and dtype."""
    try:
        header = ast.literal_eval(text.decode("ascii"))
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise DecodeError(DAMAGED) from None
    if not isinstance(descr, str) or not REAL.fullmatch(descr):
        raise DecodeError("the .npy file must hold real numbers")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise DecodeError(DAMAGED)
    return shape, bool(fortran), np.dtype(descr)
