"""Frames: the messages on the socket between the encoding service and a decoding process.

A frame consists of two lengths, a JSON object and raw bytes. Pickle is not used, because a decoder
that a hostile file controls could then run code in the service.
"""

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # decoding and cutting processes do without asyncio
    from asyncio import StreamReader

LENGTHS = struct.Struct(">II")  # lengths of the JSON header and of the payload
MAX_HEADER_BYTES = 1 << 16

Frame = tuple[dict[str, Any], bytes]


class FrameError(Exception):
    """Raised when a frame violates the format or announces more bytes than are allowed."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The header of the first frame, sent to a decoding process. Its payload is the encoders'
    config.json.
    """

    # Maximum address space in bytes, in addition to that of the imported packages.
    memory_bytes: int
    cpu_s: float  # Maximum CPU seconds of one job.
    max_bytes: int  # Maximum bytes of one file in memory.
    limits: dict[str, Any]  # The fields of model_ext.imagebind.preprocess.Limits.


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """The header of each later frame that is sent to a decoding process, without payload. The
    descriptor of the file is sent on another socket.
    """

    modality: str
    # The fields of model_ext.imagebind.preprocess.ReadOptions.
    options: dict[str, Any]
    # "": decode to the encoder's input. Else a view of model_ext.imagebind.preprocess.views.
    view: str = ""


def encode_head(header: dict[str, Any], payload_size: int) -> bytes:
    """Return the bytes of a frame that precede its payload."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), payload_size) + text


async def read_frame(stream: "StreamReader", max_payload: int) -> Frame:
    """Read a frame.

    Raises IncompleteReadError: at the end of the stream. Raises FrameError.
    """
    sizes = _check(LENGTHS.unpack(await stream.readexactly(LENGTHS.size)), max_payload)
    header = _parse(await stream.readexactly(sizes[0]))
    return header, await stream.readexactly(sizes[1])


def read_frame_blocking(stream: BinaryIO, max_payload: int) -> Frame | None:
    """Read a frame. Returns None at the end of the stream. Raises FrameError."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    sizes = _check(LENGTHS.unpack(lengths), max_payload)
    return _parse(stream.read(sizes[0])), stream.read(sizes[1])


def write_frame_blocking(stream: BinaryIO, header: dict[str, Any], payload: bytes) -> None:
    stream.write(encode_head(header, len(payload)))
    stream.write(payload)
    stream.flush()


def _check(lengths: tuple[int, ...], max_payload: int) -> tuple[int, int]:
    header, payload = lengths
    if header > MAX_HEADER_BYTES or payload > max_payload:
        raise FrameError(f"a frame of {header} + {payload} bytes; {max_payload} are allowed")
    return header, payload


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError("the header is not JSON") from None
    if not isinstance(header, dict):
        raise FrameError("the header is not a JSON object")
    return header
