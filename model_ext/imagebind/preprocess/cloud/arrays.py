"""Read clouds in .npy and .npz files. Arrays can have the shapes that are common in data sets.

The first three columns are x, y and z. Other columns (colors, normals) are ignored.
"""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.npy import npy_shape, read_exact

MAX_COLUMNS = 16
MAX_ENTRIES = 64
MAX_BYTES = 256 * 2**20  # maximum size of an array in a compressed .npz file
HEAD = 4096
NAMES = ("points", "xyz", "pc", "pcd", "pos", "coords", "data", "arr_0")  # the preferred name first

SHAPES = "the array must have the shape (N, 3), (N, 3 to 16), (3, N), (1, N, 3) or (H, W, 3)"


def read_array(data: bytes, max_points: int) -> Cloud:
    return as_cloud(read_exact(data, MAX_COLUMNS * max_points))


def read_archive(data: bytes, max_points: int) -> Cloud:
    """Find the array with the shape of a cloud in an .npz file, and read it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()[:MAX_ENTRIES]
            entries.sort(key=lambda entry: _rank(entry.filename))
            for entry in entries:
                with archive.open(entry) as file:
                    head = file.read(HEAD)
                    shape = npy_shape(head)
                    if shape is None or is_cloud_shape(shape) is None:
                        continue
                    array = head + file.read(MAX_BYTES)
                    if len(array) > MAX_BYTES:
                        raise DecodeError("the .npz file has an array that is too large")
                    return read_array(array, max_points)
    except DecodeError:
        raise
    except Exception:  # zipfile and its decompressors raise exceptions of many types
        raise DecodeError("the .npz file is damaged") from None
    raise DecodeError(f"the .npz file has no cloud: {SHAPES}")


def as_cloud(array: NDArray[Any]) -> Cloud:
    """Take x, y and z from an array of any shape that `is_cloud_shape` accepts.

    Returns float32 if it can represent all numbers of the array's dtype, else float64.
    """
    layout = is_cloud_shape(array.shape)
    if layout is None:
        raise DecodeError(SHAPES)
    rows = array.reshape(array.shape[-2:]).T if layout == "columns" else array
    points = rows.reshape(-1, rows.shape[-1])[:, :3]
    with np.errstate(invalid="ignore"):  # no warning about signalling NaNs
        return points.astype(np.promote_types(array.dtype, np.float32), order="C")


def is_cloud_shape(shape: tuple[int, ...]) -> str | None:
    """Return "rows" if each row of the array is a point, "columns" if each column is, or None."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) not in (2, 3):
        return None
    if 3 <= shape[-1] <= MAX_COLUMNS:
        return "rows"
    return "columns" if len(shape) == 2 and 3 <= shape[0] <= 9 else None


def _rank(name: str) -> int:
    stem = name.removesuffix(".npy").lower()
    return NAMES.index(stem) if stem in NAMES else len(NAMES)
