"""Recognize picture formats by signature. This module does not import Pillow."""

import re

# Signature at the start of the file -> Pillow's name of the format
PREFIXES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"qoif", "QOI"),
    (b"\x01\xda", "SGI"),
)
# Name of the format -> Pillow's readers that may open it. Pillow's other readers never get a file:
# the EPS reader, for example, runs a program. MPO is a JPEG with several pictures.
FORMATS = {
    **{name: (name,) for name in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")},
    **{name: (name,) for name in ("JPEG2000", "ICO", "QOI", "SGI", "PPM", "PCX", "TGA")},
    "JPEG": ("JPEG", "MPO"),
}
NETPBM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")
FLOATS = re.compile(rb"P[fF]\s+\d+\s+\d+\s+-?[\d.]+\s")
AVIF = (b"avif", b"avis")
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf")
MAX_TGA_SIDE = 32_768
COLOR, GREY = (15, 16, 24, 32), (8, 16)  # bits of a pixel in a Targa picture


def is_picture(data: bytes) -> str | None:
    """Return Pillow's name of the picture format, or None."""
    for prefix, name in PREFIXES:
        if data.startswith(prefix):
            return None if name == "ICO" and not _is_icon(data) else name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    if data[:1] == b"P" and (NETPBM.match(data[:512]) or FLOATS.match(data[:512])):
        return "PPM"
    if data[:1] == b"\x0a" and data[1:2] in (b"\x02", b"\x03", b"\x05") and data[2:3] == b"\x01":
        return "PCX"
    return "TGA" if _is_tga(data) else None


def _is_icon(data: bytes) -> bool:
    count = int.from_bytes(data[4:6], "little")
    # An ICO file starts with a directory. Check its first entry: a zero byte, and a position after
    # the directory.
    position = int.from_bytes(data[18:22], "little")
    return 0 < count < 256 and data[9:10] == b"\x00" and position >= 6 + 16 * count


def _of_brands(data: bytes) -> str | None:
    """Distinguish AVIF and HEIF from videos, by the brands in the first box of the file."""
    size = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, size, 4))]
    if brands[0] in AVIF:
        return "AVIF"
    if brands[0] in HEIF:
        return "AVIF" if set(brands) & set(AVIF) else "HEIF"
    return None


def _is_tga(data: bytes) -> bool:
    """Recognize a Targa picture, which has no signature, by the values of its header."""
    if len(data) < 18:
        return False
    has_map, kind, bits, flags = data[1], data[2], data[16], data[17]
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    plausible = 0 < width <= MAX_TGA_SIDE and 0 < height <= MAX_TGA_SIDE and not flags & 0xC0
    if kind in (1, 9):
        return plausible and has_map == 1 and bits == 8 and data[7] in (15, 16, 24, 32)
    depths = {2: COLOR, 10: COLOR, 3: GREY, 11: GREY}.get(kind, ())
    return plausible and has_map == 0 and data[3:8] == bytes(5) and bits in depths
