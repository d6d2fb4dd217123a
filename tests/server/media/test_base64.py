import base64

import pytest

from server.errors import BadRequest, RequestError, TooLarge
from server.media.base64 import SLICE, read_base64, read_data_url


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("kind", ["image/png", "", "audio/wav;rate=1", "IMAGE/PNG"])
def test_the_bytes_come_out_whatever_the_declared_type(kind: str) -> None:
    assert read_data_url(url(b"bytes", kind), max_bytes=10, param="p") == b"bytes"


def test_the_scheme_is_not_case_sensitive() -> None:
    assert read_data_url(url(b"x").replace("data", "DATA"), max_bytes=10, param="p") == b"x"


@pytest.mark.parametrize(
    "bad",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "data:",
        "data:image/png,plain",
        "data:image/png;base64",
        "gopher://x",
        "http://x/y.png",  # fetch.py handles http URLs, not this decoder
        "data;base64,AAAA",
    ],
)
def test_other_urls_are_refused(bad: str) -> None:
    with pytest.raises(BadRequest, match="data: URL"):
        read_data_url(bad, max_bytes=10, param="p")


@pytest.mark.parametrize("bad", ["####", "AAA", "A===", "ÄÖÜß", "AA AA", "AA==AA=="])
def test_what_is_not_base64_is_refused(bad: str) -> None:
    with pytest.raises(BadRequest, match="not base64"):
        read_base64(bad, max_bytes=100, param="p")


@pytest.mark.parametrize(
    "bad", ["A" * (SLICE - 4) + "AA==AAAA", "A" * SLICE + "A", "A" * SLICE + "A==="]
)
def test_what_is_not_base64_in_slices_is_refused(bad: str) -> None:
    with pytest.raises(BadRequest, match="not base64"):
        read_base64(bad, max_bytes=SLICE, param="p")


def test_more_than_a_slice() -> None:
    data = bytes(range(256)) * (SLICE // 128)
    encoded = base64.b64encode(data).decode()
    assert read_base64(encoded, max_bytes=len(data), param="p") == data


def test_line_breaks_are_allowed() -> None:
    data = bytes(range(200))
    assert read_base64(base64.encodebytes(data).decode(), max_bytes=200, param="p") == data


@pytest.mark.parametrize("size", [0, 1, 2, 3, 299, 300])
def test_the_bound_is_exact(size: int) -> None:
    encoded = base64.b64encode(bytes(size)).decode()
    for max_bytes in (size, size - 1):
        if max_bytes < size:
            with pytest.raises(TooLarge if size > 1 else RequestError):
                read_base64(encoded, max_bytes=max_bytes, param="p")
        elif size:
            assert len(read_base64(encoded, max_bytes=max_bytes, param="p")) == size


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(BadRequest, match="empty"):
        read_base64("", max_bytes=10, param="p")


def test_too_much_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Replace the base64 decoder by None, so that a call of it raises TypeError.
    monkeypatch.setattr("server.media.base64.binascii.a2b_base64", None)
    with pytest.raises(TooLarge):
        read_base64("A" * 10_000, max_bytes=1000, param="p")
