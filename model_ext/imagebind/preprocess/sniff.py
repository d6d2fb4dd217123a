"""Recognize the modality of bytes by the signatures of the supported formats.

Returns None for bytes without a signature, except for texts that look like a point cloud
(cloud/guess.py). A container that usually contains pictures counts as a video here. The decoding
process later checks whether it contains only sound.
"""

from model_ext.imagebind.preprocess.cloud.formats import cloud_format
from model_ext.imagebind.preprocess.cloud.guess import is_text_cloud
from model_ext.imagebind.preprocess.container import VIDEO, container
from model_ext.imagebind.preprocess.npy import npy_shape
from model_ext.imagebind.preprocess.pictures import is_picture

# File name endings of cloud formats that often have no signature
NAMES = (".xyz", ".pts", ".obj", ".pcd", ".pt", ".pth")
# Numbers of columns of arrays that count as clouds: x, y, z, with or without a color (3 or 4
# columns) and a normal (3 columns)
COLUMNS = (3, 6, 7, 9)
MIN_ROWS = 8
TEXTS = ("obj", "pts", "xyz")


def sniff(data: bytes, filename: str | None = None) -> str | None:
    """Recognize the modality of an attachment by its bytes or file name, or return None.

    `data`: the file, or its first kilobytes.
    """
    name = (filename or "").lower()
    if is_picture(data) is not None:
        return "image"
    if (media := container(data)) is not None:
        return "video" if media in VIDEO else "audio"
    if (cloud := cloud_format(data)) is not None and _is_cloud(data, cloud):
        return "point"
    if name.endswith(NAMES):
        return "point"  # if the file is invalid, the cloud reader raises the error
    return "text" if name.endswith(".txt") else None


def _is_cloud(data: bytes, name: str) -> bool:
    """Whether a file of the format `name` is a cloud. Arrays and tables can contain other data."""
    if name == "npy":
        shape = npy_shape(data) or ()
        rows = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        return len(rows) == 2 and (
            rows[1] == 3 or (rows[0] == 3 and rows[1] > 3) or _has_colors(rows)
        )
    return is_text_cloud(data, name) if name in TEXTS else True


def _has_colors(shape: tuple[int, ...]) -> bool:
    return shape[1] in COLUMNS and shape[0] >= MIN_ROWS
