"""Spool: bytes that arrive piece by piece, to a private file; counted and hashed on the way.

Knows no protocol. A spool ends as content without a name, as a named file, or as nothing.
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
    """Not for the event loop: it writes to disk. As a context, it leaves no file behind."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Unavailable if the disk is full."""
        self.size = 0
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        try:
            descriptor, path = tempfile.mkstemp(prefix="incoming-", dir=folder)  # mode 0600
        except OSError:
            raise no_room() from None
        self._path: Path | None = Path(path)
        self._descriptor: int | None = descriptor

    def write(self, data: bytes | memoryview) -> None:
        """TooLarge beyond the bound, Unavailable if the disk is full."""
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
                raise no_room() from None

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()

    def content(self) -> DiskBlob:
        """The bytes, without a name: nothing is left when they are not held any more."""
        assert self._descriptor is not None
        content = DiskBlob(self._descriptor, self.size, self.sha256)
        self._descriptor = None
        self.discard()
        return content

    def save(self, path: Path) -> None:
        """Under this name, in the same file system, from one moment to the next."""
        assert self._path is not None
        os.rename(self._path, path)
        self._path = None
        self.discard()

    def discard(self) -> None:
        """What is left of it."""
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


def no_room() -> Unavailable:
    return Unavailable("the server has no room for files left", code="disk_full")
