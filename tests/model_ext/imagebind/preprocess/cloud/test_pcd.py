import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.cloud.pcd import read_pcd
from model_ext.imagebind.preprocess.errors import DecodeError

POINTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
PLAIN = {"FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1", "POINTS": "6"}
RICH = {
    **{"FIELDS": "rgb z histogram x y", "SIZE": "4 4 2 8 4", "TYPE": "U F U F F"},
    **{"COUNT": "1 1 3 1 1", "POINTS": "6"},
}


def header(encoding: str, **fields: str) -> bytes:
    rows = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7"]
    rows += [f"{key} {value}" for key, value in fields.items()]
    rows += ["WIDTH 6", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"DATA {encoding}", ""]
    return "\n".join(rows).encode()


def rich_table() -> NDArray[np.void]:
    table = np.zeros(
        6, [("rgb", "<u4"), ("z", "<f4"), ("h", "<u2", (3,)), ("x", "<f8"), ("y", "<f4")]
    )
    for axis, column in zip("xyz", POINTS.T, strict=True):
        table[axis] = column
    return table


def test_ascii() -> None:
    body = b"".join(b"%.9g %.9g %.9g\n" % tuple(point) for point in POINTS.tolist())
    cloud = read_pcd(header("ascii", **PLAIN) + body, 6)
    np.testing.assert_array_equal(cloud.astype(np.float32), POINTS)


def test_binary() -> None:
    data = header("binary", **PLAIN) + POINTS.tobytes()
    np.testing.assert_array_equal(read_pcd(data, 6), POINTS)


def test_count_is_one_where_it_is_not_given() -> None:
    fields = {key: value for key, value in PLAIN.items() if key != "COUNT"}
    data = header("binary", **fields) + POINTS.tobytes()
    np.testing.assert_array_equal(read_pcd(data, 6), POINTS)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_other_fields_are_skipped(encoding: str) -> None:
    table = rich_table()
    body = table.tobytes()
    if encoding == "ascii":
        rows = [
            [row["rgb"], repr(float(row["z"])), *row["h"], float(row["x"]), repr(float(row["y"]))]
            for row in table
        ]
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode()
    np.testing.assert_array_equal(read_pcd(header(encoding, **RICH) + body, 6), POINTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"POINTS": "7"}, "the point cloud is shorter than its header says"),
        ({"POINTS": "1000000000000"}, "more than 1000 points"),
        ({"POINTS": "-1"}, "negative"),
        ({"POINTS": "6 6"}, "damaged"),
        ({"POINTS": ""}, "damaged"),
        ({"POINTS": "six"}, "damaged"),
        ({"FIELDS": "x y w"}, "x, y and z"),
        ({"SIZE": "4 4"}, "damaged"),
        ({"SIZE": "4 4 3"}, "damaged"),
        ({"TYPE": "F F O"}, "damaged"),
        ({"COUNT": "1 1 2"}, "damaged"),
        ({"COUNT": "1 1 -1"}, "damaged"),
        ({"COUNT": "1 1 99999"}, "damaged"),
        ({"SURPRISE": "1"}, "damaged"),
    ],
)
def test_lying_headers(change: dict[str, str], message: str) -> None:
    data = header("binary", **{**PLAIN, **change}) + POINTS.tobytes()
    with pytest.raises(DecodeError, match=message):
        read_pcd(data, 1000)


@pytest.mark.parametrize("points", [5, 7])
def test_ascii_must_have_exactly_as_many_rows(points: int) -> None:
    body = b"1 2 3\n" * 6
    message = "the point cloud does not have as many points as its header says"
    with pytest.raises(DecodeError, match=message):
        read_pcd(header("ascii", **{**PLAIN, "POINTS": str(points)}) + body, 1000)


def compressed(packed: bytes, size: int, points: int = 6) -> bytes:
    head = header("binary_compressed", **{**PLAIN, "POINTS": str(points)})
    return head + struct.pack("<II", len(packed), size) + packed


def literal(data: bytes) -> bytes:
    runs = [data[start : start + 32] for start in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def test_compressed() -> None:
    """A compressed file stores all values of x, then all values of y, and so on."""
    values = POINTS.T.astype("<f4").tobytes()
    np.testing.assert_array_equal(read_pcd(compressed(literal(values), len(values)), 6), POINTS)
    # Compressed zeros: one zero byte, then references that copy the previous byte again and again
    zeros = b"\x00\x00" + b"\xe0\x3e\x00"
    assert not read_pcd(compressed(zeros, 72), 6).any()


@pytest.mark.parametrize(
    ("packed", "size"),
    [
        *((each, 72) for each in (b"", b"\x00", b"\x20\x05", b"\xe0", b"\x1f" + bytes(8))),
        *((literal(bytes(80)), 72), (literal(bytes(72)), 73), (literal(bytes(72)), 2**32 - 1)),
    ],
)
def test_damaged_compression_is_refused(packed: bytes, size: int) -> None:
    with pytest.raises(DecodeError, match="damaged"):
        read_pcd(compressed(packed, size), 1000)
    with pytest.raises(DecodeError, match="damaged"):
        read_pcd(compressed(packed, 12 * 900_000, 900_000), 1_000_000)


def test_header_without_end_is_refused() -> None:
    data = header("ascii", **PLAIN)
    for cut in range(0, len(data) - len("DATA ascii\n") + 1, 7):
        with pytest.raises(DecodeError, match="damaged"):
            read_pcd(data[:cut], 1000)
