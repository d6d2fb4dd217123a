"""Parse rows of numbers with columns x, y, z, for all point cloud formats.

Allocates memory only for data that the file contains, not for sizes that its header declares.
Shapes: N points.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError

MAX_LINE = 4096  # maximum number of bytes in a line
MAX_COLUMNS = 256

# Points (N, 3), in float32 or float64. float64 is needed for the coordinates of laser scans in
# meters.
Cloud = NDArray[np.floating[Any]]


def lines(data: bytes, start: int = 0) -> Iterator[bytes]:
    file = io.BytesIO(data)
    file.seek(start)
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DecodeError("the point cloud has a line that is too long")
        yield line


def from_text(rows: Iterable[bytes], xyz: Sequence[int], max_points: int) -> Cloud:
    """Parse rows of text to points (N, 3).

    Skips blank rows and `#` comments. Raises DecodeError: when a row is damaged, or there are more
    than `max_points` rows.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns when the cloud is empty
            table = np.loadtxt(islice(rows, max_points + 1), np.float64, usecols=xyz, ndmin=2)
    except DecodeError:
        raise
    except (ValueError, UnicodeDecodeError, OverflowError):
        raise DecodeError("the point cloud has a row without three coordinates") from None
    check_count(len(table), max_points)
    return table


def from_binary(
    data: bytes, offset: int, count: int, columns: Sequence[np.dtype[Any]], xyz: Sequence[int]
) -> Cloud:
    """Parse `count` binary records to points (N, 3).

    `columns` are the types of a record's fields.
    """
    record = np.dtype([(f"c{index}", column) for index, column in enumerate(columns)])
    if count * record.itemsize > len(data) - offset:
        raise DecodeError("the point cloud is shorter than its header says")
    table = np.frombuffer(data, record, count, offset)
    with np.errstate(invalid="ignore"):  # no warning about signalling NaNs
        return np.stack([table[f"c{index}"].astype(np.float64) for index in xyz], axis=-1)


def check_count(count: int, max_points: int) -> None:
    if count < 0:
        raise DecodeError("the point cloud declares a negative number of points")
    if count > max_points:
        raise DecodeError(f"the point cloud has more than {max_points} points")
