import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.npy import npy_shape, read_npy


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)  # type: ignore[no-untyped-call]
    return file.getvalue()


def with_header(header: str, body: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "|i1", "|u1", "<i4", ">u8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_real_numbers_of_every_kind(dtype: str, order: Any, version: tuple[int, int]) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)
    read = read_npy(saved(array, version), 12)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, array)


def test_shape_is_read_without_the_data() -> None:
    assert npy_shape(saved(np.zeros((4, 3)))[:200]) == (4, 3)
    assert npy_shape(b"not this") is None
    assert npy_shape(b"") is None


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros(3, dtype="c16"),
        np.zeros(3, dtype="S4"),
        np.zeros(3, dtype=[("x", "f4")]),
        np.zeros(3, dtype="M8[s]"),
        np.zeros(3, dtype=bool),
    ],
)
def test_anything_but_real_numbers_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(DecodeError, match="real numbers"):
        read_npy(saved(array), 100)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (10**12, 3)}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}", "more than 99"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 2**40)}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -3)}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 3}", "damaged"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3)}", "does not agree"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", None),
        ("{'descr': '<f4', 'fortran_order': False}", "damaged"),
        ("{'descr': 'O', 'fortran_order': False, 'shape': (1,)}", "real numbers"),
        ("{'descr': 3, 'fortran_order': False, 'shape': (1,)}", "real numbers"),
        ("[" * 3000, "damaged"),
        ("__import__('os').abort()", "damaged"),
        (" " * 5000, "damaged"),
        ("[]", "damaged"),
        ("", "damaged"),
    ],
)
def test_lying_headers(header: str, message: str | None) -> None:
    data = with_header(header, b"\x00" * 4)
    if message is None:
        assert read_npy(data, 99).shape == ()
        return
    with pytest.raises(DecodeError, match=message):
        read_npy(data, 99)


def test_length_must_agree_exactly() -> None:
    data = saved(np.zeros((4, 3), np.float32))
    for damaged in (data[:-1], data + b"\x00", data[:40], data[:8]):
        with pytest.raises(DecodeError):
            read_npy(damaged, 12)


def test_doubles_beyond_float32_become_infinite_not_an_error() -> None:
    assert np.isinf(read_npy(saved(np.array([1e300])), 1)).all()
