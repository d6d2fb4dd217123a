"""The video containers that FFmpeg is let loose on, by signature.

FFmpeg opens what the bytes say. Playlists (HLS, ffconcat) make it open other files and addresses,
and it finds some of them (SDP) line by line in the middle of a file, so a signature at the start is
not enough: it must be one that FFmpeg itself is sure about, and no session description may hide
behind it.
"""

import re

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
EBML = b"\x1a\x45\xdf\xa3"
MATROSKA = re.compile(rb"\x42\x82.{1,8}?(matroska|webm)", re.DOTALL)
TS_PACKET, TS_SYNC = 188, 0x47
PROBED = 2**20  # bytes that FFmpeg looks at to tell the format
SESSION = b"c=IN IP"


def is_video(data: bytes) -> bool:
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
