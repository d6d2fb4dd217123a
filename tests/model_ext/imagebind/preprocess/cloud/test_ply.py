from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.cloud.ply import read_ply
from model_ext.imagebind.preprocess.errors import DecodeError
from tests.model_ext.imagebind.preprocess.broken import bits_flipped, cut_off

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def header(encoding: str, *elements: str, newline: str = "\n") -> bytes:
    rows = ["ply", f"format {encoding} 1.0", "comment by hand", *elements, "end_header", ""]
    return newline.join(rows).encode()


def vertex(count: int = 7, kind: str = "float") -> list[str]:
    return [f"element vertex {count}", *(f"property {kind} {axis}" for axis in "xyz")]


def rows(points: NDArray[np.float32]) -> bytes:
    return b"".join(b"%.9g %.9g %.9g\n" % tuple(point) for point in points.tolist())


def test_ascii() -> None:
    data = header("ascii", *vertex()) + rows(POINTS) + b"3 0 1 2\n"
    np.testing.assert_array_equal(read_ply(data, 7).astype(np.float32), POINTS)


@pytest.mark.parametrize(("encoding", "order"), [("little", "<"), ("big", ">")])
@pytest.mark.parametrize(("kind", "numpy_kind"), [("float", "f4"), ("double", "f8"), ("int", "i4")])
def test_binary(encoding: str, order: str, kind: str, numpy_kind: str) -> None:
    points = (POINTS * 10).round() if kind == "int" else POINTS
    data = header(f"binary_{encoding}_endian", *vertex(kind=kind))
    data += points.astype(order + numpy_kind).tobytes() + b"faces"
    np.testing.assert_array_equal(read_ply(data, 7), points)


@pytest.mark.parametrize("encoding", ["ascii", "binary_big_endian"])
def test_other_properties_and_elements_are_skipped(encoding: str) -> None:
    elements = [
        *("element camera 2", "property float focus", "property uchar on"),
        *("element vertex 7", "property float nx", "property float z", "property uchar red"),
        *("property double x", "property float y"),
        *("element face 1", "property list uchar int vertex_index"),
    ]
    record = np.dtype([("nx", ">f4"), ("z", ">f4"), ("red", "u1"), ("x", ">f8"), ("y", ">f4")])
    table = np.zeros(7, record)
    for axis, column in zip("xyz", POINTS.T, strict=True):
        table[axis] = column
    if encoding == "ascii":
        body = b"1.5 1\n2.5 0\n" + b"".join(
            " ".join(repr(float(value)) for value in row).encode() + b"\n" for row in table.tolist()
        )
    else:
        body = bytes(10) + table.tobytes()
    data = header(encoding, *elements) + body + b"3 0 1 2\n"
    np.testing.assert_array_equal(read_ply(data, 7), POINTS)


def test_windows_line_ends() -> None:
    data = header("binary_little_endian", *vertex(), newline="\r\n") + POINTS.tobytes()
    np.testing.assert_array_equal(read_ply(data, 7), POINTS)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (vertex(10**12), "more than 1000 points"),
        (vertex(-1), "negative"),
        (vertex(8), "the point cloud is shorter than its header says"),
        (["element vertex 7"], "x, y and z"),
        ([*vertex(), "property list uchar int tags"], "no lists"),
        (["element face 9", "property list uchar int i", *vertex()], "shorter"),
        (["element face -3", "property float i", *vertex()], "damaged"),
        (["element face 1", "property float i"], "no vertices"),
        ([], "no vertices"),
        (["element vertex many"], "damaged"),
        (["property float x"], "damaged"),
        ([*vertex(), "property quad w"], "damaged"),
        (["element vertex 7", *("property float x" for _ in range(999))], "damaged"),
        ([*vertex(), "surprise"], "damaged"),
        ([*vertex(), *("comment" for _ in range(2000))], "damaged"),
        (["element vertex " + "9" * 4500], "too long"),
    ],
)
def test_lying_headers(elements: list[str], message: str) -> None:
    data = header("binary_little_endian", *elements) + POINTS.tobytes()
    with pytest.raises(DecodeError, match=message):
        read_ply(data, 1000)


def test_ascii_must_have_all_rows() -> None:
    for count, before in ((8, []), (7, ["element x 999999999999999999999", "property int a"])):
        data = header("ascii", *before, *vertex(count)) + rows(POINTS)
        with pytest.raises(DecodeError, match="the point cloud is shorter than its header says"):
            read_ply(data, 1000)


@pytest.mark.parametrize("encoding", ["ascii 2.0", "utf-8", "binary_middle_endian"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(DecodeError, match="damaged"):
        read_ply(header(encoding, *vertex()), 1000)


def test_a_header_without_format_is_refused() -> None:
    data = b"\n".join([b"ply", *(row.encode() for row in vertex()), b"end_header", b""])
    with pytest.raises(DecodeError, match="damaged"):
        read_ply(data + POINTS.tobytes(), 1000)


def test_broken_files_give_points_or_a_decode_error(media: Path) -> None:
    good = (media / "points_c.ply").read_bytes()
    for data in cut_off(good):
        with pytest.raises(DecodeError):
            read_ply(data, 2000)
    for data in bits_flipped(good[:300], copies=300, flips=2):
        try:
            assert read_ply(data + good[300:], 2000).shape[1] == 3
        except DecodeError:
            continue
