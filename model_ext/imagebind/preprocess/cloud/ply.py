"""Read the vertices of polygon files (.ply), ASCII and binary of both byte orders.

Faces and other properties are skipped.
"""

import struct
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

MAX_HEADER_LINES = 1024
BYTE_ORDER = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1"},
    **{"short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2"},
    **{"int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}

CODES = dict(zip(("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"), "bBhHiIfd", strict=True))

DAMAGED = "the .ply header is damaged"


@dataclass
class Element:
    name: str
    count: int
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)  # NumPy's names, without byte order
    has_list: bool = False
    # For each property: (type of the count, type of the values) of a list, or (type, None) of a
    # number.
    layout: list[tuple[str, str | None]] = field(default_factory=list)


def read_ply(data: bytes, max_points: int) -> Cloud:
    try:
        encoding, elements, start = _header(data)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError):
        raise DecodeError(DAMAGED) from None
    for position, element in enumerate(elements):
        if element.name == "vertex":
            return _vertices(data, encoding, elements[:position], element, start, max_points)
    raise DecodeError("the .ply file has no vertices")


def _header(data: bytes) -> tuple[str, list[Element], int]:
    encoding, length = "", 0
    elements: list[Element] = []
    for line in islice(table.lines(data), MAX_HEADER_LINES):
        length += len(line)
        match line.decode("ascii", "replace").split():
            case ["end_header"] if encoding:
                return encoding, elements, length
            case ["format", name, "1.0"] if name in BYTE_ORDER:
                encoding = name
            case ["element", name, count]:
                elements.append(Element(name, int(count)))
            case ["property", "list", count_type, type_name, _]:
                elements[-1].has_list = True
                elements[-1].layout.append((TYPES[count_type], TYPES[type_name]))
            case ["property", type_name, name]:
                elements[-1].types.append(TYPES[type_name])
                elements[-1].layout.append((TYPES[type_name], None))
                elements[-1].names.append(name)
            case ["ply"] | ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError("not a line of the format")
    raise ValueError("no end of header")


def _vertices(
    data: bytes, encoding: str, before: list[Element], vertex: Element, start: int, max_points: int
) -> Cloud:
    table.check_count(vertex.count, max_points)
    if any(element.count < 0 for element in before) or len(vertex.names) > table.MAX_COLUMNS:
        raise DecodeError(DAMAGED)
    if vertex.has_list or not {"x", "y", "z"} <= set(vertex.names):
        raise DecodeError("the .ply file's vertices must have x, y and z, and no lists")
    xyz = [vertex.names.index(axis) for axis in "xyz"]
    if encoding == "ascii":
        skip = sum(element.count for element in before)
        if skip + vertex.count > len(data):  # each row has at least one byte
            raise DecodeError("the point cloud is shorter than its header says")
        rows = islice(table.lines(data, start), skip, skip + vertex.count)
        cloud = table.from_text(rows, xyz, max_points)
        if len(cloud) != vertex.count:
            raise DecodeError("the point cloud is shorter than its header says")
        return cloud
    order = BYTE_ORDER[encoding]
    for element in before:
        if element.has_list:
            start = _after_lists(data, start, element, order)
        else:
            start += element.count * sum(np.dtype(name).itemsize for name in element.types)
    columns = [np.dtype(order + name) for name in vertex.types]
    return table.from_binary(data, start, vertex.count, columns, xyz)


def _after_lists(data: bytes, start: int, element: Element, order: str) -> int:
    """Return the position after an element with lists, whose rows have different lengths."""
    if element.count > len(data):  # each row has at least one byte
        raise DecodeError("the point cloud is shorter than its header says")
    layout = [
        (struct.Struct((order or "<") + CODES[kind]), np.dtype(values).itemsize if values else 0)
        for kind, values in element.layout
    ]
    try:
        for _ in range(element.count):
            for number, size in layout:
                (count,) = number.unpack_from(data, start)
                start += number.size + (int(count) * size if size and count > 0 else 0)
    except (struct.error, ValueError, OverflowError):
        raise DecodeError("the point cloud is shorter than its header says") from None
    return start
