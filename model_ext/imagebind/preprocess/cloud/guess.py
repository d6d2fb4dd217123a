"""Decide whether a text is a point cloud, for files whose modality the request does not state.

Any table of numbers can be read as a cloud. Therefore, a table counts as a cloud only if its header
names x, y and z, or if its columns look like coordinates, possibly followed by colors or normals.
An .obj file counts as a cloud if it has a vertex.
"""

import re
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.cloud.text import column_names, significant_lines, xyz_columns
from model_ext.imagebind.preprocess.errors import DecodeError

VERTEX = re.compile(rb"^v[ \t]+[-+.\d]\S*[ \t]+[-+.\d]\S*[ \t]+[-+.\d]", re.MULTILINE)
# Allowed numbers of columns in a table without header: x, y, z, then possibly an intensity, three
# colors, and a normal vector
COLUMNS = (3, 4, 6, 7, 9)
MIN_ROWS, PROBED_ROWS = 8, 16


def is_text_cloud(data: bytes, name: str) -> bool:
    """Whether a text of the format `name` (obj, pts or xyz) is a cloud.

    `data`: the file, or its first kilobytes.
    """
    if name == "obj":
        return VERTEX.search(data) is not None
    complete = data[: data.rfind(b"\n") + 1]  # the last line may be cut off
    try:
        first, *rows = islice(significant_lines(complete), PROBED_ROWS + 1)
    except (ValueError, DecodeError):
        return False
    if name == "pts":  # `first` is the number of points
        return _coordinates(rows) is not None
    if (names := column_names(first)) is not None:
        return xyz_columns(names) is not None
    table = _coordinates([first, *rows])
    return table is not None and _is_cloud(table)


def _coordinates(rows: list[bytes]) -> NDArray[np.float64] | None:
    """Return the rows as an array, or None if they do not look like coordinates: the first three
    numbers of each row must have a decimal point or an exponent.
    """
    words = [row.split() for row in rows]
    if len(words) < MIN_ROWS or len({len(row) for row in words}) != 1 or len(words[0]) < 3:
        return None
    if not all(b"." in word or b"e" in word.lower() for row in words for word in row[:3]):
        return None
    try:
        return np.array([[float(word) for word in row] for row in words])
    except ValueError:
        return None


def _is_cloud(table: NDArray[np.float64]) -> bool:
    """Whether a table (rows, columns) without header contains coordinates, and not a time
    series.
    """
    if table.shape[1] not in COLUMNS:
        return False
    if (np.diff(table[:, 0]) > 0).all():  # increasing values are times
        return False
    return table.shape[1] < 6 or any(
        _are_colors(table[:, start : start + 3]) or _are_normals(table[:, start : start + 3])
        for start in range(3, table.shape[1] - 2)
    )


def _are_colors(columns: NDArray[np.float64]) -> bool:
    """Whether the columns (rows, 3) are colors: numbers from 0 to 1, or integers from 0 to 255."""
    integers = (columns == np.round(columns)).all()
    return bool((columns >= 0).all() and (columns <= (255 if integers else 1)).all())


def _are_normals(columns: NDArray[np.float64]) -> bool:
    """Whether the columns (rows, 3) are normals: each row is a vector of length 1."""
    return bool((np.abs(np.linalg.norm(columns, axis=1) - 1) < 0.02).all())
