"""Content: an attachment's bytes, in memory or on disk, behind one small interface.

Who holds an attachment need not know where its bytes are. Those on disk are read in pieces, by the
stage that decodes; so a server's memory does not grow with what its clients upload.
"""

import asyncio
import hashlib
import os
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

PIECE = 1 << 18
HEAD_BYTES = 8192  # enough for every signature that `sniff` knows


class Content(Protocol):
    @property
    def size(self) -> int: ...

    def head(self, count: int = HEAD_BYTES) -> bytes:
        """At most the first `count` bytes."""
        ...

    async def digest(self) -> bytes:
        """SHA-256."""
        ...

    def pieces(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class InMemory:
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


class OnDisk:
    """An open file, which nobody changes; closed when the last who holds this lets go.

    Its name may be gone: a job that runs goes on while the client deletes the file.
    """

    def __init__(self, descriptor: int, size: int, digest: bytes) -> None:
        """Owns the descriptor."""
        self.size = size
        self._descriptor = descriptor
        self._digest = digest
        weakref.finalize(self, os.close, descriptor)

    def head(self, count: int = HEAD_BYTES) -> bytes:
        return os.pread(self._descriptor, count, 0)

    async def digest(self) -> bytes:
        return self._digest

    async def pieces(self) -> AsyncIterator[bytes]:
        """OSError if the disk fails."""
        for offset in range(0, self.size, PIECE):
            count = min(PIECE, self.size - offset)
            piece = await asyncio.to_thread(os.pread, self._descriptor, count, offset)
            if len(piece) != count:
                raise OSError("the file is shorter than it was")
            yield piece
