"""Recognize the modality of bytes by the signatures of the supported formats.

For bytes without a signature, the result is None instead of a guess.
"""

from model_ext.imagebind.preprocess.container import is_video
from model_ext.imagebind.preprocess.npy import npy_shape

TEXT_CLOUDS = (".xyz", ".pts", ".obj", ".pcd")  # point clouds that are recognized by file name


def sniff(data: bytes, filename: str | None = None) -> str | None:
    """Recognize the modality of an attachment by its bytes or file name, or return None."""
    name = (filename or "").lower()
    if is_image(data):
        return "image"
    if is_audio(data):
        return "audio"
    if is_video(data):
        return "video"
    if is_cloud(data) or name.endswith(TEXT_CLOUDS):
        return "point"
    if data.startswith(b"PK\x03\x04") and name.endswith((".pt", ".pth")):
        return "point"  # the reader of point clouds rejects .pt files if they are disabled
    if name.endswith(".txt"):
        return "text"
    return None


def is_image(data: bytes) -> bool:
    return data.startswith(
        (
            b"\xff\xd8\xff",  # JPEG
            b"\x89PNG\r\n\x1a\n",
            b"GIF87a",
            b"GIF89a",
            b"BM",
            b"II*\x00",  # TIFF
            b"MM\x00*",
        )
    ) or _riff(data, b"WEBP")


def is_audio(data: bytes) -> bool:
    return (
        data.startswith((b"fLaC", b"OggS", b"ID3"))
        or _riff(data, b"WAVE")
        or (data[:4] == b"RF64" and data[8:12] == b"WAVE")
        or _mp3_frame(data)
    )


def is_cloud(data: bytes) -> bool:
    if data.startswith((b"ply\n", b"ply\r\n", b"# .PCD ")):
        return True
    shape = npy_shape(data)
    return shape is not None and len(shape) == 2 and shape[1] == 3


def _riff(data: bytes, form: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == form


def _mp3_frame(data: bytes) -> bool:
    """Whether the bytes start with an MPEG layer III frame (an mp3 file without an ID3 tag)."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return False
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    return data[1] & 0x18 != 0x08 and 0 < bitrate < 15 and rate != 3
