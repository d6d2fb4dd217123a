"""The reader of laser scans checks those numbers in a file that determine how much its libraries
allocate or loop.
"""

import struct

import pytest

from model_ext.imagebind.preprocess.cloud.las import read_las
from model_ext.imagebind.preprocess.errors import DecodeError
from tests.corpus import FOLDER

LAZ = (FOLDER / "point-a-laz.laz").read_bytes()
POINTS_AT = struct.unpack_from("<I", LAZ, 96)[0]
TABLE_AT = struct.unpack_from("<q", LAZ, POINTS_AT)[0]


def changed(position: int, value: bytes) -> bytes:
    return LAZ[:position] + value + LAZ[position + len(value) :]


@pytest.mark.parametrize(
    "data",
    [
        changed(100, b"\xff\xff\xff\x7f"),  # A header with 2 billion records before the points.
        changed(TABLE_AT + 4, b"\xff\xff\xff\x7f"),  # A number of chunks that need 46 GB.
        changed(POINTS_AT, struct.pack("<q", 2**60)),  # A table of chunks beyond the end.
        changed(POINTS_AT, struct.pack("<q", -7)),
        LAZ[:200],
        LAZ[:-5],
        b"LASF",
    ],
)
def test_impossible_numbers_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match=r"damaged|more than"):
        read_las(data, 100_000)


def test_the_number_of_points_is_limited() -> None:
    assert read_las(LAZ, 600).shape == (600, 3)
    with pytest.raises(DecodeError, match="more than 599 points"):
        read_las(LAZ, 599)
