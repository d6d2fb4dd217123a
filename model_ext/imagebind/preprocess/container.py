"""Recognize the video containers that FFmpeg may open, by signature.

FFmpeg recognizes a file's format by its bytes. Some formats are dangerous: playlists (HLS,
ffconcat) make FFmpeg open other files and addresses, and so do session descriptions (SDP), which
FFmpeg recognizes even in the middle of a file. Therefore a file must start with a signature that
FFmpeg prefers to any other format, and must not contain a session description.
"""

import re

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
EBML = b"\x1a\x45\xdf\xa3"
MATROSKA = re.compile(rb"\x42\x82.{1,8}?(matroska|webm)", re.DOTALL)
TS_PACKET, TS_SYNC = 188, 0x47
PROBED = 2**20  # number of bytes that FFmpeg reads to recognize the format
SESSION = b"c=IN IP"


def is_video(data: bytes) -> bool:
    """Whether it is safe to open these bytes with FFmpeg."""
    return _has_signature(data) and SESSION not in data[:PROBED]


def _has_signature(data: bytes) -> bool:
    return (
        data[4:8] in MP4_BOXES
        or (data.startswith(EBML) and MATROSKA.search(data[:128]) is not None)
        or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")
        or _is_transport_stream(data)
    )


def _is_transport_stream(data: bytes) -> bool:
    packets = data[: 10 * TS_PACKET : TS_PACKET]
    return len(packets) >= 5 and all(byte == TS_SYNC for byte in packets)
