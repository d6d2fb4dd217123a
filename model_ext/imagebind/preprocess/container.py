"""Recognize containers of sound and video by signature, and name FFmpeg's demuxer for each.

FFmpeg must not choose the format of a file by its bytes, because some formats make FFmpeg open
other files and addresses: playlists (HLS, ffconcat), and session descriptions (SDP), which FFmpeg
recognizes even in the middle of a file. Therefore, PyAV gets the name of the demuxer. decord has no
parameter for this name, so it gets only files that start with a signature that FFmpeg prefers to
all other formats, and that contain no session description.
"""

import re

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
EBML = b"\x1a\x45\xdf\xa3"
MATROSKA = re.compile(rb"\x42\x82.{1,8}?(matroska|webm)", re.DOTALL)
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
TS_SYNC = 0x47
PROBED = 2**20  # number of bytes that FFmpeg reads to recognize the format
SESSION = b"c=IN IP"

# Containers that usually contain pictures. A file without pictures counts as a sound.
VIDEO = frozenset(
    {"mp4", "matroska", "avi", "mpegts", "m2ts", "asf", "mpeg", "mpegvideo", "flv", "ogv"}
)
# Not mp3: soundfile seeks after each block that it reads, which damages the next samples of an mp3.
LIBSNDFILE = frozenset({"wav", "flac", "ogg", "aiff", "caf", "w64", "au"})
# Not mpegts: decord skips the first frames of a group.
DECORD = frozenset({"mp4", "matroska", "avi"})

PREFIXES = (
    (ASF, "asf"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpegvideo"),
    (b"FLV\x01", "flv"),
    (b"fLaC", "flac"),
    (b"caff", "caf"),
    (W64, "w64"),
    (b".snd", "au"),
    (b"#!AMR", "amr"),
    (b"wvpk", "wv"),
    (b"TTA1", "tta"),
    (b"\x0b\x77", "ac3"),
)


def container(data: bytes) -> str | None:
    """Return the name of the container, or None. It is the name of FFmpeg's demuxer, except `ogv`
    (Ogg with pictures) and `m2ts` (the transport stream of Blu-ray discs).
    """
    for prefix, name in PREFIXES:
        if data.startswith(prefix):
            return name
    if data[4:8] in MP4_BOXES:
        return "mp4"
    if data.startswith(EBML) and MATROSKA.search(data[:128]) is not None:
        return "matroska"
    if data.startswith(b"OggS"):
        return "ogv" if any(name in data[:256] for name in (b"\x80theora", b"OVP80")) else "ogg"
    return _riff(data) or _frames(data) or _transport_stream(data)


def is_audio(data: bytes) -> bool:
    """Whether the bytes are of a container that has only sound."""
    name = container(data)
    return name is not None and name not in VIDEO


def is_video(data: bytes) -> bool:
    """Whether FFmpeg chooses a safe demuxer for these bytes, which decord cannot control."""
    return container(data) in DECORD and SESSION not in data[:PROBED]


def _riff(data: bytes) -> str | None:
    form = data[8:12]
    if data[:4] in (b"RIFF", b"RF64") and form == b"WAVE":
        return "wav"
    if data[:4] == b"RIFF" and form == b"AVI ":
        return "avi"
    return "aiff" if data[:4] == b"FORM" and form in (b"AIFF", b"AIFC") else None


def _frames(data: bytes) -> str | None:
    """Recognize a stream of MPEG audio frames, with or without an ID3 tag before them."""
    start = 0
    if data.startswith(b"ID3"):
        if len(data) < 10:
            return "mp3"
        size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
        start = 10 + size
        # the tag is longer than `data`, and usually an mp3 stream follows
        if start + 4 > len(data):
            return "mp3"
    head = data[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF:
        return "mp3" if start else None
    if head[1] & 0xF6 == 0xF0:  # layer bits 0 mean AAC (ADTS), not MPEG audio
        return "aac" if head[2] >> 2 & 15 < 13 else None
    layer, bitrate, rate = head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    valid = head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08 and layer in (1, 2)
    return "mp3" if valid and 0 < bitrate < 15 and rate != 3 else None


def _transport_stream(data: bytes) -> str | None:
    """Recognize an MPEG transport stream. Blu-ray discs have 4 more bytes before each packet."""
    for name, offset, length in (("mpegts", 0, 188), ("m2ts", 4, 192)):
        head = data[offset : 10 * length : length]
        if len(head) >= 5 and set(head) == {TS_SYNC}:
            return name
    return None
