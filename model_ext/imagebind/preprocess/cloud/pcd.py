"""Read the fields x, y, z of Point Cloud Library files (.pcd): ASCII, binary and compressed."""

import struct
from itertools import islice
from typing import Any

import numpy as np

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.lzf import decompress
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

MAX_HEADER_LINES = 64
SIZES = struct.Struct("<II")  # sizes of the compressed and the uncompressed data
MAX_RATIO = 88
KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS")
TYPES = ("F4", "F8", "I1", "I2", "I4", "I8", "U1", "U2", "U4", "U8")

DAMAGED = "the .pcd header is damaged"


def read_pcd(data: bytes, max_points: int) -> Cloud:
    try:
        header, encoding, start = _header(data)
        names, columns, repeats = _columns(header)
        (points,) = map(int, header["POINTS"])
    except (ValueError, KeyError, TypeError):
        raise DecodeError(DAMAGED) from None
    table.check_count(points, max_points)
    if not {"x", "y", "z"} <= set(names):
        raise DecodeError("the .pcd file must have the fields x, y and z")
    fields = [names.index(axis) for axis in "xyz"]
    if any(repeats[index] != 1 for index in fields):
        raise DecodeError(DAMAGED)
    if encoding == "binary":
        records = [
            np.dtype((column, (repeat,))) if repeat != 1 else column
            for column, repeat in zip(columns, repeats, strict=True)
        ]
        return table.from_binary(data, start, points, records, fields)
    if encoding == "binary_compressed":
        return _compressed(data, start, points, columns, repeats, fields)
    if encoding != "ascii":
        raise DecodeError(DAMAGED)
    xyz = [sum(repeats[:index]) for index in fields]
    cloud = table.from_text(table.lines(data, start), xyz, max_points)
    if len(cloud) != points:
        raise DecodeError("the point cloud does not have as many points as its header says")
    return cloud


def _compressed(
    data: bytes,
    start: int,
    points: int,
    columns: list[np.dtype[Any]],
    repeats: list[int],
    fields: list[int],
) -> Cloud:
    """Read a compressed file, which stores all values of x, then all values of y, and so on."""
    sizes = [column.itemsize * repeat for column, repeat in zip(columns, repeats, strict=True)]
    if len(data) < start + SIZES.size:
        raise DecodeError(DAMAGED)
    packed, unpacked = SIZES.unpack_from(data, start)
    begin = start + SIZES.size
    # LZF decompresses 3 bytes to at most 264 bytes.
    if unpacked != points * sum(sizes) or unpacked > MAX_RATIO * packed:
        raise DecodeError(DAMAGED)
    values = decompress(data[begin : begin + packed], unpacked)
    offsets = [points * sum(sizes[:index]) for index in fields]
    axes = [
        np.frombuffer(values, columns[index], points, offset)
        for index, offset in zip(fields, offsets, strict=True)
    ]
    with np.errstate(invalid="ignore"):  # no warning about signalling NaNs
        return np.stack([axis.astype(np.float64) for axis in axes], axis=-1)


def _header(data: bytes) -> tuple[dict[str, list[str]], str, int]:
    header: dict[str, list[str]] = {}
    length = 0
    for line in islice(table.lines(data), MAX_HEADER_LINES):
        length += len(line)
        match line.decode("ascii", "replace").split():
            case ["DATA", encoding]:
                return header, encoding, length
            case [key, *values] if key in KEYS:
                header[key] = values
            case [] | ["#", *_]:
                pass
            case _:
                raise ValueError("not a line of the format")
    raise ValueError("no DATA line")


def _columns(header: dict[str, list[str]]) -> tuple[list[str], list[np.dtype[Any]], list[int]]:
    names = header["FIELDS"]
    types = [letter + size for letter, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    repeats = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(types) == len(repeats) or not set(types) <= set(TYPES):
        raise ValueError("fields do not agree")
    if any(count < 1 for count in repeats) or sum(repeats) > table.MAX_COLUMNS:
        raise ValueError("a field repeats too often")
    return names, [np.dtype("<" + name.lower()) for name in types], repeats
