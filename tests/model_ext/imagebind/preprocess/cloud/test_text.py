import pytest

from model_ext.imagebind.preprocess.cloud.text import read_obj, read_pts, read_xyz, text_format
from model_ext.imagebind.preprocess.errors import DecodeError

OBJ = b"""# a triangle
mtllib some.mtl
o thing
v 1 2 3
v  4 5 6 1.0
vn 0 0 1
vt 0 0
v\t7 8 9 0.1 0.2 0.3
f 1//1 2//1 3//1
"""
THREE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_obj_takes_its_vertices_only() -> None:
    assert text_format(OBJ) == "obj"
    assert read_obj(OBJ, 3).tolist() == THREE
    with pytest.raises(DecodeError, match="more than 2 points"):
        read_obj(OBJ, 2)
    with pytest.raises(DecodeError, match="three coordinates"):
        read_obj(b"v 1 2\n", 3)


def test_pts_has_a_count_that_must_be_right() -> None:
    rows = b"1 2 3 -1200 255 0 0\n4 5 6\n\n7 8 9 10\n"
    data = b"\n3\n" + rows
    assert text_format(data) == "pts"
    assert read_pts(data, 3).tolist() == THREE
    for count in (b"2\n", b"4\n"):
        message = "the point cloud (does not have as many points as its header says|has more than)"
        with pytest.raises(DecodeError, match=message):
            read_pts(count + rows, 5)
    with pytest.raises(DecodeError, match="more than 5 points"):
        read_pts(b"1000000000000\n" + rows, 5)


def test_xyz_is_rows_of_numbers() -> None:
    data = b"# x y z\n1 2 3\n4 5 6 0.5\n7 8 9\n"
    assert text_format(data) == "xyz"
    assert read_xyz(data, 3).tolist() == THREE


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"# only\n", b"hello world\n", b"1 2\n", b"1 2 \x00 3\n", b"<html>", b"9" * 30],
)
def test_other_text_is_no_cloud(data: bytes) -> None:
    assert text_format(data) is None


def test_comments_without_end_are_only_read_once() -> None:
    assert text_format(b"#\n" * 100_000) is None
