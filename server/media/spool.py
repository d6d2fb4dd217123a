"""Spool: writes arriving bytes to a private file, and counts and hashes them.

This module does not depend on protocols. A spool ends in one of three ways: `blob` returns an
unnamed file, `save` gives the file a name, `discard` deletes it.
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
    """A file that receives bytes. The methods block on the disk, so call them in a thread.

    As a context manager, a spool deletes its file at the end.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Create the file. Raises Unavailable when the disk is full."""
        self.size = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        try:
            # mkstemp creates the file with mode 0600.
            descriptor, path = tempfile.mkstemp(prefix="incoming-", dir=folder)
        except OSError:
            raise disk_full() from None
        self._path: Path | None = Path(path)
        self._descriptor: int | None = descriptor

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises TooLarge: when the file would exceed `max_bytes`. Raises
        Unavailable: when the disk is full.
        """
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
        """Return the bytes as a file without a name, which the kernel deletes when it is closed."""
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
        """Close the descriptor and delete the file. Does nothing if `blob` or `save` has taken
        them.
        """
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
