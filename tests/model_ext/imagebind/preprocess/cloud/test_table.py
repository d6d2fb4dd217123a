import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from model_ext.imagebind.preprocess.cloud.table import check_count, from_binary, from_text, lines
from model_ext.imagebind.preprocess.errors import DecodeError


def test_rows_may_have_comments_blanks_tabs_and_more_columns() -> None:
    rows = [b"# made by hand\n", b"\n", b"1 2 3\r\n", b"4\t5\t6 7 8 9 # ten\n", b"7 8 9 1\n"]
    assert from_text(rows, (0, 1, 2), 10).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert from_text(rows[2:4], (2, 0, 1), 10).tolist() == [[3, 1, 2], [6, 4, 5]]


@pytest.mark.parametrize("row", [b"1 2\n", b"1 2 x\n", b"1,2,3\n", b"\xff\xfe\n", b"1 2 3_\n"])
def test_rows_without_three_numbers_are_refused(row: bytes) -> None:
    with pytest.raises(DecodeError, match="three coordinates"):
        from_text([b"1 2 3\n", row], (0, 1, 2), 10)


def test_no_rows_are_an_empty_cloud() -> None:
    assert len(from_text([], (0, 1, 2), 10)) == 0


def test_endless_rows_are_cut_off() -> None:
    counter = itertools.count()

    def endless() -> Iterator[bytes]:
        while True:
            next(counter)
            yield b"1 2 3\n"

    with pytest.raises(DecodeError, match="more than 1000 points"):
        from_text(endless(), (0, 1, 2), 1000)
    assert next(counter) == 1001


def test_long_lines_are_refused() -> None:
    assert list(lines(b"1" * 4095 + b"\n2")) == [b"1" * 4095 + b"\n", b"2"]
    with pytest.raises(DecodeError, match="the point cloud has a line that is too long"):
        list(lines(b"1 2 3\n" + b"1" * 5000))


def test_binary_must_be_there() -> None:
    columns = [np.dtype("<f4")] * 3
    data = b"head" + np.arange(6, dtype="<f4").tobytes()
    assert from_binary(data, 4, 2, columns, (0, 1, 2)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DecodeError, match="the point cloud is shorter than its header says"):
        from_binary(data, 5, 2, columns, (0, 1, 2))
    with pytest.raises(DecodeError, match="the point cloud is shorter than its header says"):
        from_binary(data, 4, 10**15, columns, (0, 1, 2))


@pytest.mark.parametrize("count", [-1, 11, 10**30])
def test_counts(count: int) -> None:
    with pytest.raises(DecodeError, match=r"negative|more than 10"):
        check_count(count, 10)
