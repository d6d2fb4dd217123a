"""Recognize the format of a point cloud or mesh by its first bytes. Imports no large library."""

import struct

import numpy as np

from model_ext.imagebind.preprocess.cloud.text import text_format
from model_ext.imagebind.preprocess.npy import MAGIC

PREFIXES = (
    (MAGIC, "npy"),
    (b"ply\n", "ply"),
    (b"ply\r", "ply"),
    (b"# .PCD", "pcd"),
    (b"VERSION ", "pcd"),
    (b"LASF", "las"),
    (b"glTF", "glb"),
)
OFF = (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF")
ZIP = b"PK\x03\x04"
# one triangle of a binary STL file: normal, three corners, attributes
FACET = struct.Struct("<12fH")
STL_HEADER = 84


def cloud_format(data: bytes) -> str | None:
    """Return the format's name, or None. `data`: the whole file, or only its first kilobytes."""
    for prefix, name in PREFIXES:
        if data.startswith(prefix):
            return name
    if data.startswith(ZIP):
        # name of the first file in the ZIP archive
        first = data[30 : 30 + int.from_bytes(data[26:28], "little")]
        return "npz" if first.endswith(b".npy") else "pt" if first.endswith(b"data.pkl") else None
    if data[:16].split(maxsplit=1)[:1] and data[:16].split(maxsplit=1)[0] in OFF:
        return "off"
    if (data.startswith(b"solid") and b"facet" in data[:1024]) or _is_binary_stl(data):
        return "stl"
    return text_format(data)


def _is_binary_stl(data: bytes) -> bool:
    """Recognize binary STL by its first triangles, whose normals have length 1. The format has no
    signature.
    """
    count = int.from_bytes(data[80:84], "little")
    facets = min(count, 8, (len(data) - STL_HEADER) // FACET.size)
    if facets < 1 or len(data) > STL_HEADER + FACET.size * count:
        return False
    values = [FACET.unpack_from(data, STL_HEADER + FACET.size * index) for index in range(facets)]
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(np.array([row[:3] for row in values]), axis=1)
        corners = np.abs(np.array([row[3:12] for row in values]))
        near = (np.abs(lengths - 1) < 0.01) | (lengths == 0)
        return bool(near.all() and (corners < 1e9).all() and (corners.max() > 1e-9))
