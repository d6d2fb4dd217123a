"""The place of one file of a bulk run: a path, a member of a tar shard, or a value of a table."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cache_index.captions import Caption
from server.errors import BadRequest
from server.media.blob import HEAD_BYTES, PIECE, Blob, DiskBlob, MemoryBlob


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes of one file. The methods block on the disk and raise OSError."""

    path: Path
    name: str = ""  # name inside the file at `path`; "" for the file itself
    offset: int = 0
    size: int | None = None  # number of bytes from `offset`; None: the whole file
    data: bytes | None = None  # the bytes, if they have been read already

    def __str__(self) -> str:
        return f"{self.path}/{self.name}" if self.name else str(self.path)

    def head(self) -> bytes:
        """The first bytes, with which the modality is recognized."""
        if self.data is not None:
            return self.data[:HEAD_BYTES]
        return self._pread(HEAD_BYTES if self.size is None else min(HEAD_BYTES, self.size))

    def read(self, max_bytes: int) -> bytes:
        """Read all bytes. Raises BadRequest: when there are more than `max_bytes`."""
        if self.data is not None or self.size is not None:
            check_size(len(self.data) if self.data is not None else self.size or 0, max_bytes)
        if self.data is not None:
            return self.data
        data = self._pread(max_bytes + 1 if self.size is None else self.size)
        check_size(len(data), max_bytes)
        return data

    def blob(self, max_bytes: int) -> Blob:
        """Open the bytes without reading all of them into memory. The SHA-256 of the result may be
        empty, because cutting a file does not need it. Raises as `read` does.
        """
        if self.data is not None:
            return MemoryBlob(self.read(max_bytes))
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if self.size is None else self.size
            check_size(size, max_bytes)
            if self.size is None:
                return DiskBlob(os.dup(file.fileno()), size, b"")
            return DiskBlob(copy(file.fileno(), self.offset, size), size, b"")

    def _pread(self, count: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(count)


@dataclass(frozen=True, slots=True)
class BulkItem:
    place: Place
    caption: Caption  # the caption's id is the name of the file

    def with_fields(self, **fields: str | float) -> Caption:
        """Return the caption with additional columns."""
        return replace(self.caption, fields={**self.caption.fields, **fields})


def check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BadRequest(f"the file has more than {max_bytes} bytes")
    if not size:
        raise BadRequest("the file is empty")


def copy(source: int, offset: int, size: int) -> int:
    """Copy a range of an open file to an unnamed file. Returns its descriptor."""
    with tempfile.TemporaryFile() as file:
        while size:
            piece = os.pread(source, min(size, PIECE), offset)
            if not piece:
                raise OSError("the file is shorter than its index says")
            file.write(piece)
            offset, size = offset + len(piece), size - len(piece)
        file.flush()
        return os.dup(file.fileno())
