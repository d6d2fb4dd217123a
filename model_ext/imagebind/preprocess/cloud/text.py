"""Clouds in plain text: .obj (its vertices), .pts (a count, then rows) and .xyz (rows)."""

from collections.abc import Iterator

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

XYZ = (0, 1, 2)
OBJ_WORDS = {b"v", b"vn", b"vt", b"vp", b"f", b"l", b"o", b"g", b"s", b"mtllib", b"usemtl"}


def read_obj(data: bytes, most: int) -> Cloud:
    """Only lines that begin with `v`: faces are ignored, surfaces are not sampled."""
    vertices = (line[2:] for line in table.lines(data) if line[:2] in (b"v ", b"v\t"))
    return table.from_text(vertices, XYZ, most)


def read_pts(data: bytes, most: int) -> Cloud:
    rows = significant_lines(data)
    declared = int(next(rows))
    table.check_count(declared, most)
    cloud = table.from_text(rows, XYZ, most)
    if len(cloud) != declared:
        raise DecodeError("the point cloud does not have as many points as its header says")
    return cloud


def read_xyz(data: bytes, most: int) -> Cloud:
    return table.from_text(significant_lines(data), XYZ, most)


def text_format(data: bytes) -> str | None:
    """obj, pts, xyz, or None if this is none of them, judged by the first line that counts."""
    if b"\x00" in data[:1024]:
        return None
    words = next(significant_lines(data), b"").split()
    if words and words[0] in OBJ_WORDS:
        return "obj"
    if len(words) == 1 and words[0].isdigit() and len(words[0]) < 20:
        return "pts"
    try:
        return "xyz" if len([float(word) for word in words]) >= len(XYZ) else None
    except ValueError:
        return None


def significant_lines(data: bytes) -> Iterator[bytes]:
    return (line for line in table.lines(data) if (text := line.strip()) and text[:1] != b"#")
