"""Blob: an attachment's bytes, in memory or on disk, behind one interface.

The decoder reads bytes on disk in pieces, so that the server's memory does not grow with the sizes
of uploads.
"""

import asyncio
import hashlib
import os
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from server.errors import Unavailable

PIECE = 1 << 18
HEAD_BYTES = 8192  # covers every signature that `sniff` checks


class Blob(Protocol):
    @property
    def size(self) -> int: ...

    def head(self, count: int = HEAD_BYTES) -> bytes:
        """At most the first `count` bytes."""
        ...

    async def digest(self) -> bytes:
        """SHA-256."""
        ...

    def pieces(self) -> AsyncIterator[bytes]: ...

    async def descriptor(self) -> int:
        """An open file with these bytes, for another process. The caller closes it."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryBlob:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def head(self, count: int = HEAD_BYTES) -> bytes:
        return self.data[:count]

    async def digest(self) -> bytes:
        if self.size <= PIECE:  # a fraction of a millisecond
            return hashlib.sha256(self.data).digest()
        return await asyncio.to_thread(lambda: hashlib.sha256(self.data).digest())

    async def pieces(self) -> AsyncIterator[bytes]:
        view = memoryview(self.data)
        for offset in range(0, self.size, PIECE):
            yield bytes(view[offset : offset + PIECE])

    async def descriptor(self) -> int:
        if self.size <= PIECE:
            return memory_file(self.data)
        return await asyncio.to_thread(memory_file, self.data)


class DiskBlob:
    """An open file whose content does not change. Closed when the object is garbage-collected.

    The file may have no name any more: a running job keeps its bytes when the client deletes the
    file.
    """

    def __init__(self, descriptor: int, size: int, digest: bytes) -> None:
        """Takes ownership of the descriptor."""
        self.size = size
        self._descriptor = descriptor
        self._digest = digest
        weakref.finalize(self, os.close, descriptor)

    def head(self, count: int = HEAD_BYTES) -> bytes:
        """Raises Unavailable on a disk error (so does `pieces`)."""
        try:
            return os.pread(self._descriptor, count, 0)
        except OSError:
            raise unreadable() from None

    async def digest(self) -> bytes:
        return self._digest

    async def pieces(self) -> AsyncIterator[bytes]:
        for offset in range(0, self.size, PIECE):
            count = min(PIECE, self.size - offset)
            try:
                piece = await asyncio.to_thread(os.pread, self._descriptor, count, offset)
            except OSError:
                raise unreadable() from None
            if len(piece) != count:  # the file was truncated
                raise unreadable()
            yield piece

    async def descriptor(self) -> int:
        return os.dup(self._descriptor)


def memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("bindserve", os.MFD_CLOEXEC)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unreadable() -> Unavailable:
    return Unavailable("a stored file cannot be read; try again", code="file_unreadable")
