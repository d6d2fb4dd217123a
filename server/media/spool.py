"""Spool: write arriving bytes to a private file, and count and hash them.

Independent of protocols. A spool ends as an unnamed file (`blob`), as a named file (`save`), or is
deleted (`discard`).
"""

import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from server.errors import TooLarge, Unavailable
from server.media.blob import DiskBlob


class Spool:
    """Blocks on the disk, so call it in a thread. As a context manager, deletes its file."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Raises Unavailable when the disk is full."""
        self.size = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        try:
            descriptor, path = tempfile.mkstemp(prefix="incoming-", dir=folder)  # mode 0600
        except OSError:
            raise disk_full() from None
        self._path: Path | None = Path(path)
        self._descriptor: int | None = descriptor

    def write(self, data: bytes | memoryview) -> None:
        """Raises TooLarge beyond `max_bytes`, Unavailable when the disk is full."""
        assert self._descriptor is not None
        self.size += len(data)
        if self.size > self._max_bytes:
            raise TooLarge(f"the file is larger than {self._max_bytes} bytes")
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                raise disk_full() from None

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()

    def blob(self) -> DiskBlob:
        """The bytes as an unnamed file, which the kernel deletes when it is closed."""
        assert self._descriptor is not None
        blob = DiskBlob(self._descriptor, self.size, self.sha256)
        self._descriptor = None
        self.discard()
        return blob

    def save(self, path: Path) -> None:
        """Rename the file to `path` atomically; `path` must be on the same file system."""
        assert self._path is not None
        os.rename(self._path, path)
        self._path = None
        self.discard()

    def discard(self) -> None:
        """Close the descriptor and delete the file, if the spool still owns them."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._descriptor = self._path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


def disk_full() -> Unavailable:
    return Unavailable("the server's disk space for files is full", code="disk_full")
