"""Blob: one interface to the bytes of an attachment, which are in memory or on disk.

A decoding process gets the descriptor of a file on disk, so that the server's memory does not grow
with the size of uploads.
"""

import asyncio
import hashlib
import os
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from server.errors import Unavailable

PIECE = 1 << 18
HEAD_BYTES = 8192  # enough bytes for every file signature that `sniff` checks


class Blob(Protocol):
    @property
    def size(self) -> int: ...

    def head(self, count: int = HEAD_BYTES) -> bytes:
        """Return the first `count` bytes, or all bytes if there are fewer."""
        ...

    async def digest(self) -> bytes:
        """Return the SHA-256 hash of the bytes."""
        ...

    def pieces(self) -> AsyncIterator[bytes]: ...

    async def descriptor(self) -> int:
        """Return the descriptor of an open file with these bytes, which can be passed to another
        process. The caller closes it.
        """
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
        # not in a thread: hashing so few bytes takes a fraction of a millisecond
        if self.size <= PIECE:
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
    """An open file whose content does not change. A running job can still read it after the client
    has deleted it.

    It is closed when the object is garbage-collected.
    """

    def __init__(self, descriptor: int, size: int, digest: bytes) -> None:
        """Take ownership of `descriptor`, an open file."""
        self.size = size
        self._descriptor = descriptor
        self._digest = digest
        weakref.finalize(self, os.close, descriptor)

    def head(self, count: int = HEAD_BYTES) -> bytes:
        """Return the first `count` bytes. Raises Unavailable on a disk error, as `pieces` does."""
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
            if len(piece) != count:  # the file has been truncated
                raise unreadable()
            yield piece

    async def descriptor(self) -> int:
        return os.dup(self._descriptor)


@asynccontextmanager
async def opened(blob: Blob) -> AsyncIterator[int]:
    """Yield a descriptor of a file with these bytes. Its position in the file is its own, because
    other jobs may read the same file at the same time.

    Raises Unavailable: when the file cannot be opened or has been truncated.
    """
    try:
        shared = await blob.descriptor()
        try:
            descriptor = os.open(f"/proc/self/fd/{shared}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(shared)
    except OSError:
        raise unreadable() from None
    try:
        if os.fstat(descriptor).st_size != blob.size:
            raise unreadable()
        yield descriptor
    finally:
        os.close(descriptor)


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
