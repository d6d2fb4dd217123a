import hashlib
import os
from pathlib import Path

import pytest

from server.errors import Unavailable
from server.media.blob import PIECE, Blob, DiskBlob, MemoryBlob, opened

DATA = os.urandom(2 * PIECE + 7)


def on_disk(folder: Path, data: bytes = DATA, size: int | None = None) -> DiskBlob:
    (folder / "file").write_bytes(data)
    descriptor = os.open(folder / "file", os.O_RDONLY)
    return DiskBlob(descriptor, size or len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_both_blobs_have_the_same_bytes(kind: str, tmp_path: Path) -> None:
    content: Blob = MemoryBlob(DATA) if kind == "memory" else on_disk(tmp_path)
    assert content.size == len(DATA)
    assert content.head(10) == DATA[:10]
    assert await content.digest() == hashlib.sha256(DATA).digest()
    pieces = [piece async for piece in content.pieces()]
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) == PIECE


async def test_a_file_is_read_to_its_end_though_its_name_is_gone(tmp_path: Path) -> None:
    content = on_disk(tmp_path)
    (tmp_path / "file").unlink()
    assert b"".join([piece async for piece in content.pieces()]) == DATA


async def test_a_file_closes_with_its_last_reference(tmp_path: Path) -> None:
    content = on_disk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    del content
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_a_descriptor_for_another_process(kind: str, tmp_path: Path) -> None:
    content: Blob = MemoryBlob(DATA) if kind == "memory" else on_disk(tmp_path)
    descriptor = await content.descriptor()
    del content
    with os.fdopen(descriptor, "rb") as file:
        assert os.pread(file.fileno(), len(DATA) + 1, 0) == DATA


async def test_a_file_that_shrank_is_unavailable(tmp_path: Path) -> None:
    content = on_disk(tmp_path, size=len(DATA) + 1)
    with pytest.raises(Unavailable, match="cannot be read"):
        _ = [piece async for piece in content.pieces()]


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_each_opened_file_has_its_own_position(kind: str, tmp_path: Path) -> None:
    content: Blob = MemoryBlob(DATA) if kind == "memory" else on_disk(tmp_path)
    async with opened(content) as one, opened(content) as other:
        assert os.read(one, 9) == os.read(other, 9) == DATA[:9]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(one, b"x")


async def test_opening_a_file_that_shrank_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        async with opened(on_disk(tmp_path, size=len(DATA) + 1)):
            pass


async def test_a_disk_that_fails_is_unavailable(tmp_path: Path) -> None:
    # The descriptor is that of a folder, so reading from it fails.
    content = DiskBlob(os.open(tmp_path, os.O_RDONLY), 10, b"")
    with pytest.raises(Unavailable, match="cannot be read"):
        content.head()
    with pytest.raises(Unavailable, match="cannot be read"):
        _ = [piece async for piece in content.pieces()]
