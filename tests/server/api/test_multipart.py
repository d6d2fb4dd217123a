"""Multipart forms as common clients send them, hostile forms, and the memory that a large form
needs.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from server.api.multipart import Form, FormLimits, read_form
from server.errors import BadRequest, RequestError, TooLarge, UnsupportedMediaType

LIMITS = FormLimits(parts=4, field_bytes=1000, file_bytes=100_000)
KIND = "multipart/form-data; boundary=B"


def a_request(chunks: Iterable[bytes], kind: str = KIND, *, disconnects: bool = False) -> Request:
    """Create a request with the body `chunks`. If `disconnects`, the client sends only this part
    of the body and closes the connection.
    """
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    last = {"type": "http.disconnect"} if disconnects else {"type": "http.request", "body": b""}
    source = iter([*messages, last])

    async def receive() -> Any:
        return next(source)

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def part(name: str, data: bytes, filename: str | None = None, more: str = "") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'
    return head.encode() + data + b"\r\n"


END = b"--B--\r\n"


async def read(
    folder: Path, *chunks: bytes, limits: FormLimits = LIMITS, inline: str = "request", **more: Any
) -> tuple[dict[str, bytes], list[tuple[str, str, bytes]]]:
    async with read_form(
        a_request(chunks, **more), folder, limits, inline=frozenset({inline})
    ) as form:
        return form.fields, contents(form)


def contents(form: Form) -> list[tuple[str, str, bytes]]:
    return [(f.field, f.filename, f.spool.blob().head(1 << 20)) for f in form.files]


async def test_a_form_as_httpx_writes_it(tmp_path: Path) -> None:
    built = httpx.Request(
        "POST",
        "http://x",
        data={"purpose": "user_data"},
        files=[("file", ('é " a.png', b"\r\n--B\r\n" * 10)), ("request", ("r.json", b"{}"))],
    )
    fields, files = await read(tmp_path, built.read(), kind=built.headers["content-type"])
    assert fields == {"purpose": b"user_data", "request": b"{}"}
    ((field, name, data),) = files
    assert (field, data) == ("file", b"\r\n--B\r\n" * 10)
    assert name.startswith("é ")
    assert not list(tmp_path.iterdir())


# no deadline: the time of a busy machine says nothing about the parser
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(st.data())
def test_how_it_is_cut_does_not_matter(tmp_path: Path, data: st.DataObject) -> None:
    whole = part("a", b"1\r\n--", "x.bin") + part("f", b"field") + part("b", b"", "y") + END
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    chunks = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    fields, files = asyncio.run(read(tmp_path, *chunks))
    assert fields == {"f": b"field"}
    assert files == [("a", "x.bin", b"1\r\n--"), ("b", "y", b"")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", BadRequest),
        (b"nonsense", BadRequest),
        (part("a", b"1"), BadRequest),  # This form has no final boundary.
        (part("a", b"1", "f")[:-20], BadRequest),
        (part("a", b"1") * 2 + END, BadRequest),
        (b"".join(part(str(i), b"1") for i in range(5)) + END, BadRequest),
        (part("a", b"1" * 1001) + END, TooLarge),
        (part("a", b"1" * 501) + part("b", b"1" * 500) + END, TooLarge),
        (part("request", b"1" * 1001, "r.json") + END, TooLarge),
        (part("a", b"1" * 100_001, "f") + END, TooLarge),
        (part("a", b"1", more="X: y\r\n" * 9) + END, BadRequest),
        (part("a", b"1", more=f"X: {'y' * 5000}\r\n") + END, BadRequest),
        (part("a", b"1", "f", more="Content-Transfer-Encoding: base64\r\n") + END, BadRequest),
        (b"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n" + END, BadRequest),
        (b"--B\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n" + END, BadRequest),
        (b"--B\r\n\r\n1\r\n" + END, BadRequest),
        (b"--B\r\n: \r\n\r\n1\r\n" + END, BadRequest),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else None,
)
async def test_a_bad_form_is_refused_and_leaves_nothing(
    tmp_path: Path, body: bytes, error: type[RequestError]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        await read(tmp_path, body)
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("application/json", UnsupportedMediaType),
        ("multipart/mixed; boundary=B", UnsupportedMediaType),
        ("multipart/form-data", BadRequest),
        ("multipart/form-data; boundary=", BadRequest),
        (f"multipart/form-data; boundary={'B' * 300}", BadRequest),
    ],
)
async def test_what_is_no_form(tmp_path: Path, kind: str, error: type[RequestError]) -> None:
    with pytest.raises(error):
        await read(tmp_path, part("a", b"1") + END, kind=kind)


async def test_a_client_that_disconnects_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        await read(tmp_path, part("a", b"1" * 1000, "f")[:-50], disconnects=True)
    assert not list(tmp_path.iterdir())


async def test_names_lose_what_could_end_a_line(tmp_path: Path) -> None:
    _, ((_, name, _),) = await read(tmp_path, part("a", b"1", "x\t\x1b[2J" + "y" * 300) + END)
    assert name.isprintable()
    assert len(name) == 255


async def test_memory_does_not_grow_with_the_upload(tmp_path: Path) -> None:
    """An upload of 100 MB raises the process's peak memory by less than 20 MiB."""
    size, piece = 100 << 20, os.urandom(1 << 16)
    limits = FormLimits(parts=4, field_bytes=1000, file_bytes=size)

    async def body() -> AsyncIterator[bytes]:
        yield part("file", b"", "big.bin")[:-2]
        for _ in range(size // len(piece)):
            yield piece
        yield b"\r\n" + END

    request = a_request([])
    request.stream = body  # type: ignore[method-assign,assignment]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with read_form(request, tmp_path, limits) as form:
        content = form.files[0].spool.blob()
        assert content.size == size
        read = sum([len(piece) async for piece in content.pieces()])
    assert read == size
    # ru_maxrss, the peak memory, is in KiB, so this limit is 20 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("filename*=UTF-8''na%C3%AFve%20a.png", "naïve a.png"),
        ("filename*=utf-8'en'a.png", "a.png"),
        ("FILENAME* = UTF-8''a", "a"),
        ("filename=\"plain\"; filename*=UTF-8''extended", "plain"),
    ],
)
async def test_an_extended_file_name(tmp_path: Path, parameters: str, name: str) -> None:
    head = f'--B\r\nContent-Disposition: form-data; name="a"; {parameters}\r\n\r\n'
    assert await read(tmp_path, head.encode() + b"1\r\n" + END) == ({}, [("a", name, b"1")])


async def test_an_extended_file_name_inside_of_a_name_is_text(tmp_path: Path) -> None:
    fields, files = await read(tmp_path, part("a; filename*=UTF-8''b", b"1") + END)
    assert (fields, files) == ({"a; filename*=UTF-8''b": b"1"}, [])


@pytest.mark.parametrize("value", ["", "a.png", "latin1''a", "UTF-8''%C", "UTF-8''a b", '"x"'])
async def test_a_bad_extended_file_name(tmp_path: Path, value: str) -> None:
    head = f'--B\r\nContent-Disposition: form-data; name="a"; filename*={value}\r\n\r\n'
    with pytest.raises(BadRequest, match="filename"):
        await read(tmp_path, head.encode() + b"1\r\n" + END)
