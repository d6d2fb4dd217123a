"""Recognize the modality of bytes by the signatures of the supported formats.

For bytes without a signature, the result is None instead of a guess. A container that usually has
pictures counts as a video here; the decoding process decides whether it is a sound.
"""

from model_ext.imagebind.preprocess.container import VIDEO, container
from model_ext.imagebind.preprocess.npy import npy_shape
from model_ext.imagebind.preprocess.pictures import is_picture

TEXT_CLOUDS = (".xyz", ".pts", ".obj", ".pcd")  # recognized by name if they have no signature


def sniff(data: bytes, filename: str | None = None) -> str | None:
    """Recognize the modality of an attachment by its bytes or file name, or return None."""
    name = (filename or "").lower()
    if is_picture(data) is not None:
        return "image"
    if (media := container(data)) is not None:
        return "video" if media in VIDEO else "audio"
    if is_cloud(data) or name.endswith(TEXT_CLOUDS):
        return "point"
    if data.startswith(b"PK\x03\x04") and name.endswith((".pt", ".pth")):
        return "point"  # the reader raises if .pt files are disabled
    if name.endswith(".txt"):
        return "text"
    return None


def is_cloud(data: bytes) -> bool:
    if data.startswith((b"ply\n", b"ply\r\n", b"# .PCD ")):
        return True
    shape = npy_shape(data)
    return shape is not None and len(shape) == 2 and shape[1] == 3
