"""Read clouds in plain text: .obj (vertices), .pts (a count, then rows) and .xyz (rows)."""

from collections.abc import Iterator

from model_ext.imagebind.preprocess.cloud import table
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

XYZ = (0, 1, 2)
OBJ_WORDS = {b"v", b"vn", b"vt", b"vp", b"f", b"l", b"o", b"g", b"s", b"mtllib", b"usemtl"}


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
    return table.from_text(significant_lines(data), XYZ, max_points)


def text_format(data: bytes) -> str | None:
    """Recognize obj, pts or xyz by the first line with data, or return None."""
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
