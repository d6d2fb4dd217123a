"""Write minimal AVI and Matroska files of JPEG frames, with any frame rate or timestamps.

All pixels of frame n have the grey level 2n, so that a test can identify each decoded frame.
"""

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image


def grey_frames(count: int, width: int = 64, height: int = 48) -> list[bytes]:
    frames = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(np.full((height, width, 3), 2 * number, np.uint8)).save(
            file, "JPEG", quality=95
        )
        frames.append(file.getvalue())
    return frames


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=98, subsampling=0)
    return file.getvalue()


def avi(
    frames: Sequence[bytes], rate: int, scale: int = 1, size: tuple[int, int] = (64, 48)
) -> bytes:
    """Write an AVI file with `rate / scale` frames per second."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)

    width, height = size
    count = len(frames)
    main = struct.pack(
        "<14I", 10**6 * scale // rate, 0, 0, 0x10, count, 0, 1, 0, width, height, *[0] * 4
    )
    stream = b"vidsMJPG" + struct.pack(
        "<I2H8I4h", 0, 0, 0, 0, scale, rate, 0, count, 0, 0, 0, 0, 0, width, height
    )
    bitmap = struct.pack(
        "<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0
    )
    strl = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", bitmap))
    hdrl = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + strl)
    movi, index = b"movi", b""
    for frame in frames:
        index += b"00dc" + struct.pack("<III", 0x10, len(movi), len(frame))
        movi += chunk(b"00dc", frame)
    return chunk(b"RIFF", b"AVI " + hdrl + chunk(b"LIST", movi) + chunk(b"idx1", index))


def matroska(
    frames: Sequence[bytes],
    milliseconds: Sequence[int],
    duration: float,
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """Write a Matroska file with a frame at each of `times`, and with `duration` in its header
    (both in ms).
    """

    def element(name: int, body: bytes) -> bytes:
        length = name.bit_length() + 7 >> 3
        return name.to_bytes(length, "big") + (len(body) | 1 << 56).to_bytes(8, "big") + body

    def number(name: int, value: int) -> bytes:
        return element(name, value.to_bytes(4, "big"))

    head = number(0x4286, 1) + number(0x42F7, 1) + number(0x42F2, 4) + number(0x42F3, 8)
    head += element(0x4282, b"matroska") + number(0x4287, 2) + number(0x4285, 2)
    info = number(0x2AD7B1, 10**6) + element(0x4D80, b"test") + element(0x5741, b"test")
    info += element(0x4489, struct.pack(">d", duration))
    picture = element(0xE0, number(0xB0, size[0]) + number(0xBA, size[1]))
    track = number(0x9C, 0) + number(0x23E383, 100_000_000)  # duration of a frame: 100 ms
    track += number(0xD7, 1) + number(0x73C5, 1) + number(0x83, 1)
    tracks = element(0xAE, track + element(0x86, b"V_MJPEG") + picture)
    clusters = b""
    for frame, time in zip(frames, milliseconds, strict=True):
        block = b"\x81" + struct.pack(">hB", 0, 0x80) + frame
        clusters += element(0x1F43B675, number(0xE7, time) + element(0xA3, block))
    segment = element(0x1549A966, info) + element(0x1654AE6B, tracks) + clusters
    return element(0x1A45DFA3, head) + element(0x18538067, segment)
