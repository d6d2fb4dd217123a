"""Decode the values of an accelerometer and a gyroscope, from .npy files or tables (.csv).

An array of the encoder's shape (6, 2000) is used unchanged. Other arrays and tables have any number
of rows. The encoder's input represents 5 s. The released code has no loader, so bindserve defines
the rules: a table with a column of times is cut after 5 s, a table without this column counts as 5
s long, and both are resampled to the encoder's number of steps by linear interpolation. Shapes: N
rows.
"""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.text import column_names, significant_lines
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.npy import MAGIC, read_npy
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions

SECONDS = 5
MAX_ROWS = 1_000_000
TIME = re.compile(r"t|time.*|.*timestamp.*|seconds.*")
# (upper bound, unit): a time column whose median step is below the bound has this unit, in seconds.
# Sensors record 10 to 1000 values per second.
UNITS = ((0.5, 1.0), (500, 1e-3), (5e5, 1e-6), (float("inf"), 1e-9))

Rows = NDArray[np.floating]


def read_imu(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a file to (6, steps) float32. The rows are accelerometer x, y, z and gyroscope x, y,
    z.
    """
    del limits  # the caller has checked the size of the file
    notes = {} if notes is None else notes
    channels, steps = config.imu_channels, config.imu_steps
    if data.startswith(MAGIC):
        array = read_npy(data, MAX_ROWS * channels)
        array = array.reshape(tuple(size for size in array.shape if size != 1))
        if array.shape == (channels, steps):
            return _tensor(array)
        if array.ndim != 2 or channels not in array.shape:
            raise DecodeError(
                f"the .npy file must have the shape ({channels}, N) or (N, {channels})"
            )
        rows, times = array.T if array.shape[0] == channels else array, None
    else:
        rows, times = _table(data, channels)
    finite = np.isfinite(rows).all(axis=1)
    if times is not None:
        finite &= np.isfinite(times)
        times = times[finite]
    if not finite.all():
        notes["dropped_rows"] = int((~finite).sum())
    rows = rows[finite]
    if times is None and options.pad_rows:
        padded = np.zeros((steps, channels))
        padded[: len(rows)] = rows[:steps]
        return _tensor(padded.T)
    return _tensor(_resample(rows, times, steps, notes))


def _table(data: bytes, channels: int) -> tuple[Rows, Rows | None]:
    rows = significant_lines(data)
    first = next(rows, b"")
    names = column_names(first)
    if names is None:
        count = len(first.split())
        start = count - channels
        if start not in (0, 1):
            raise unreadable("imu", data) if not first[:1].isdigit() else _columns(channels)
        columns, time = list(range(start, count)), 0 if start else None
        values = table.from_text(iter([first, *rows]), range(count), MAX_ROWS)
    else:
        columns, time = _named(names, channels)
        values = table.from_text(rows, range(len(names)), MAX_ROWS)
    return values[:, columns], None if time is None else values[:, time]


def _named(names: list[str], channels: int) -> tuple[list[int], int | None]:
    """Find the columns of the accelerometer and the gyroscope by their names, else by position."""
    time = next((index for index, name in enumerate(names) if TIME.fullmatch(name)), None)
    columns = [
        index
        for sensor in ("a", "g")
        for axis in "xyz"
        for index, name in enumerate(names)
        if name.startswith(sensor) and re.search(rf"{axis}(\W.*)?$", name)
    ]
    if len(columns) != channels:
        columns = [index for index in range(len(names)) if index != time]
    if len(columns) != channels:
        raise _columns(channels)
    return columns, time


def _resample(rows: Rows, times: Rows | None, steps: int, notes: Notes) -> Rows:
    if len(rows) < 2:
        raise DecodeError("the IMU values have fewer than two rows")
    if times is None:
        seconds = np.linspace(0, SECONDS, len(rows))
    else:
        delta = np.diff(times)
        if (delta < 0).any() or times[-1] <= times[0]:
            raise DecodeError("the times of the IMU values do not increase")
        unit = next(unit for bound, unit in UNITS if np.median(delta) < bound)
        seconds = (times - times[0]) * unit
        notes["seconds"] = round(min(float(seconds[-1]), SECONDS), 3)
    steps_s = np.linspace(0, min(float(seconds[-1]), SECONDS), steps)
    notes["resampled_from"] = int((seconds <= SECONDS).sum())
    return np.stack([np.interp(steps_s, seconds, column) for column in rows.T])


def _columns(channels: int) -> DecodeError:
    return DecodeError(
        f"the table must have {channels} columns (accelerometer x, y, z, gyroscope x, y, z), and"
        " may have a column of times"
    )


def _tensor(array: Rows) -> Tensor:
    with np.errstate(over="ignore"):
        values = np.array(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise DecodeError("the file has values that are not finite numbers")
    return torch.from_numpy(values)
