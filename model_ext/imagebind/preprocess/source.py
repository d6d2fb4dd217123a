"""The bytes of a file: in memory, or in an open file of which a reader reads only what it needs."""

import io
import os
from typing import BinaryIO

from model_ext.imagebind.preprocess.container import PROBED

# The bytes of a file, or a file with a descriptor that is open for reading. The position in the
# file does not matter: each function and reader starts where it needs to.
Source = bytes | BinaryIO


def size_of(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else source.seek(0, os.SEEK_END)


def head_of(source: Source) -> bytes:
    """Return the first PROBED bytes, which contain the signature of every format."""
    return source[:PROBED] if isinstance(source, bytes) else as_file(source).read(PROBED)


def whole(source: Source) -> bytes:
    return source if isinstance(source, bytes) else as_file(source).read()


def as_file(source: Source) -> BinaryIO:
    """Return a file at its start."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    source.seek(0)
    return source
