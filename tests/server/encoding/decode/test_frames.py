import asyncio
import io
import struct

import pytest

from server.encoding.decode.frames import (
    MAX_HEADER_BYTES,
    FrameError,
    encode_head,
    read_frame,
    read_frame_blocking,
    write_frame_blocking,
)


async def read(data: bytes, max_payload: int = 100) -> object:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return await read_frame(stream, max_payload)


@pytest.mark.parametrize("payload", [b"", b"\x00\xff" * 50])
async def test_both_sides_read_what_is_written(payload: bytes) -> None:
    header = {"modality": "image", "text": "é"}
    written = io.BytesIO()
    write_frame_blocking(written, header, payload)
    assert await read(written.getvalue()) == (header, payload)
    written.seek(0)
    assert read_frame_blocking(written, 100) == (header, payload)
    assert read_frame_blocking(written, 100) is None


async def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError):
        await read(struct.pack(">II", 2, 101) + b"{}")
    with pytest.raises(FrameError):
        await read(struct.pack(">II", MAX_HEADER_BYTES + 1, 0))


@pytest.mark.parametrize("header", [b"nonsense", b"[]", b"\xff", b"[" * 60_000])
async def test_a_header_must_be_a_json_object(header: bytes) -> None:
    with pytest.raises(FrameError):
        await read(struct.pack(">II", len(header), 0) + header)


async def test_an_end_in_the_middle_is_told() -> None:
    whole = encode_head({"a": 1}, 5) + b"12345"
    for length in range(len(whole)):
        with pytest.raises(asyncio.IncompleteReadError):
            await read(whole[:length])
