"""Read clouds in plain text: .obj (vertices), .pts (a count, then rows), and tables.

Tables are .xyz, .txt and .csv files: rows of numbers, separated by white space, commas or
semicolons, with or without a row of names. The reader takes the columns named x, y and z. Without
such names, it takes the first three.
"""

from collections.abc import Iterator
from itertools import chain, islice

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

XYZ = (0, 1, 2)
OBJ_WORDS = {b"v", b"vn", b"vt", b"vp", b"f", b"l", b"o", b"g", b"s", b"mtllib", b"usemtl"}
SEPARATORS = bytes.maketrans(b",;\t|", b"    ")
MAX_NAMES = 64
PROBED_ROWS = 16


def read_obj(data: bytes, max_points: int) -> Cloud:
    """Read the vertices of an .obj file, the lines that begin with `v`. Faces are ignored."""
    vertices = (line[2:] for line in table.lines(data) if line[:2] in (b"v ", b"v\t"))
    return table.from_text(vertices, XYZ, max_points)


def read_pts(data: bytes, max_points: int) -> Cloud:
    rows = significant_lines(data)
    declared = int(next(rows))
    table.check_count(declared, max_points)
    cloud = table.from_text(rows, XYZ, max_points)
    if len(cloud) != declared:
        raise DecodeError("the point cloud does not have as many points as its header says")
    return cloud


def read_xyz(data: bytes, max_points: int) -> Cloud:
    rows = significant_lines(data)
    first = next(rows, b"")
    names = column_names(first)
    if names is None:
        return table.from_text(chain([first], rows), XYZ, max_points)
    return table.from_text(rows, xyz_columns(names) or XYZ, max_points)


def text_format(data: bytes) -> str | None:
    """Recognize obj, pts or xyz by the first lines with data, or return None."""
    if b"\x00" in data[:1024]:
        return None
    try:
        first, *rows = islice(significant_lines(data), PROBED_ROWS)
    except (ValueError, DecodeError):
        return None
    words = first.split()
    if words[0] in OBJ_WORDS and (words[0] != b"v" or _numbers(b" ".join(words[1:])) >= len(XYZ)):
        return "obj"
    if len(words) == 1 and words[0].isdigit() and len(words[0]) < 20:
        return "pts" if not rows or _numbers(rows[0]) >= len(XYZ) else None
    if column_names(first) is not None:
        return "xyz" if rows and _numbers(rows[0]) >= len(XYZ) else None
    return "xyz" if _numbers(first) >= len(XYZ) else None


def column_names(row: bytes) -> list[str] | None:
    """Return the names in a table's first row, or None if the row has numbers."""
    names = [name.strip(b"\"' ").decode("utf-8", "replace").lower() for name in row.split()]
    if not 3 <= len(names) <= MAX_NAMES or any(_is_number(name) for name in names):
        return None
    return names


def xyz_columns(names: list[str]) -> tuple[int, ...] | None:
    """Return the positions of the columns x, y and z, or None if a name is missing."""
    short = [name.removeprefix("//").removeprefix("#") for name in names]
    if not {"x", "y", "z"} <= set(short):
        return None
    return tuple(short.index(axis) for axis in "xyz")


def significant_lines(data: bytes) -> Iterator[bytes]:
    """Yield the lines that have data. In a yielded line, white space separates the words."""
    for line in table.lines(data):
        row = line.removeprefix(b"\xef\xbb\xbf").translate(SEPARATORS).strip()
        if row and row[:1] != b"#":
            yield row


def _numbers(row: bytes) -> int:
    """Return how many numbers the row has, or 0 if the row contains a word that is not a number."""
    words = row.split()
    return len(words) if all(_is_number(word) for word in words) else 0


def _is_number(word: bytes | str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
