"""Import the modules that the readers' libraries import only when they read the first file.

A decoding process calls `import_lazy_modules` before it gives up the right to open files.
"""

import contextlib
import importlib
import io
import pkgutil
import struct
import zipfile

import av
import laspy
import numpy as np
import soundfile
import trimesh
from PIL import Image
from safetensors.torch import save

from model_ext.imagebind.preprocess.bpe import Tokenizer
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import decode
from model_ext.imagebind.preprocess.views import VIEWS, read_view

# not imported: modules that run a program or download files
NOT_IMPORTED = ("av.__main__", "av.datasets")
CODECS = ("ascii", "latin-1", "utf-8-sig", "utf-16", "utf-32", "idna", "cp437", "cp1252")


def import_lazy_modules() -> None:
    """Read one small file with each library."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in NOT_IMPORTED:
            importlib.import_module(module.name)
    Image.init()
    Tokenizer.load()
    for codec in CODECS:
        b"".decode(codec)
    for modality, data in _files():
        with contextlib.suppress(DecodeError):
            save({"tensor": decode(modality, data).tensor.contiguous()})
        for view in VIEWS:
            with contextlib.suppress(DecodeError):
                read_view(view, modality, data, Limits())


def _files() -> list[tuple[str, bytes]]:
    """Return small files as (modality, bytes)."""
    picture, sound, scan, archive = (io.BytesIO() for _ in range(4))
    Image.new("RGB", (8, 8)).save(picture, "TIFF")
    soundfile.write(sound, np.zeros(800, np.float32), 16_000, format="WAV")
    scan_data = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
    scan_data.x = scan_data.y = scan_data.z = np.zeros(64)
    scan_data.write(scan, do_compress=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("points.npy", b"")
    cube = trimesh.creation.box()
    meshes = [cube.export(file_type=kind) for kind in ("off", "stl", "stl_ascii", "glb")]
    video = b"\x00\x00\x00\x08ftyp" + struct.pack(">I", 8) + b"moov"
    return [
        ("image", picture.getvalue()),
        ("audio", sound.getvalue()),
        ("audio", b"caff"),
        ("video", video),
        ("text", b"a dog"),
        ("point", scan.getvalue()),
        ("point", archive.getvalue()),
        *(("point", each.encode() if isinstance(each, str) else each) for each in meshes),
        ("imu", b"1,2,3,4,5,6\n" * 8),
    ]
