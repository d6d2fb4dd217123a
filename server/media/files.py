"""Files that clients upload once and refer to by id. Each file has its bytes and a record on disk.

Every owner (an API key) has a separate sub-folder and cannot access the files of other owners. All
state is on disk, so several processes can share the folder. The functions block: call them in a
thread, except `get`, which reads only a few hundred bytes.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server.errors import BadRequest, NotFound, TooLarge, Unavailable
from server.media.blob import DiskBlob, unreadable
from server.media.sources import Upload
from server.media.spool import Spool, disk_full

logger = logging.getLogger(__name__)

SWEEP_S = 60
# An upload that received no bytes for so many seconds belongs to a server that was killed.
MAX_UPLOAD_S = 3600
FILE_ID = re.compile("file-[0-9a-f]{32}")
RECORD = ".json"
PARTIAL = ".partial"  # a record that is being written


@dataclass(frozen=True, slots=True)
class FileLimits:
    owner_files: int
    owner_bytes: int
    total_bytes: int
    max_age_s: int  # maximum and default lifetime of a file, in seconds


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The record of a file: the fields of OpenAI's file object, and the hash of the content."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    sha256: str

    def document(self) -> dict[str, Any]:
        document = asdict(self)
        del document["sha256"]
        return {"object": "file", **document, "status": "processed", "status_details": None}


class FileStore:
    def __init__(self, folder: Path, limits: FileLimits) -> None:
        """`folder`: an existing folder that only the server can access."""
        self.folder = folder
        self.limits = limits
        self.incoming = folder / "incoming"
        self._owners = folder / "owners"
        for each in (self.incoming, self._owners):
            each.mkdir(mode=0o700, exist_ok=True)

    def of(self, owner: str) -> "OwnedFiles":
        """Return the files of one owner.

        `owner`: hexadecimal digits that identify an API key, or "" for all clients of a server
        without keys.
        """
        return OwnedFiles(self, self._owners / (owner or "anonymous"))

    def sweep(self) -> None:
        """Delete the expired files of every owner, and the unfinished uploads of killed servers."""
        for path in self.incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - MAX_UPLOAD_S:
                    path.unlink()
        for folder in self._owners.iterdir():
            OwnedFiles(self, folder).all()  # `all` deletes expired files

    def used_bytes(self) -> int:
        return sum(OwnedFiles(self, folder).used_bytes() for folder in self._owners.iterdir())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the quota, so that two concurrent uploads cannot both use the same free bytes."""
        with (self.folder / "quota").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


async def sweep_regularly(store: FileStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await asyncio.to_thread(store.sweep)
        except OSError as error:
            logger.warning("expired files could not be deleted: %s", error.strerror)


class OwnedFiles:
    """The files of one owner."""

    def __init__(self, store: FileStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def add(
        self, spool: Spool, *, filename: str, purpose: str, lifetime_s: int | None = None
    ) -> FileRecord:
        """Store an upload.

        Raises TooLarge or BadRequest: when the upload exceeds a quota.
        Raises Unavailable: when the disk is full.
        """
        now = int(time.time())
        record = FileRecord(
            id=f"file-{secrets.token_hex(16)}",
            bytes=spool.size,
            created_at=now,
            expires_at=now + (lifetime_s or self._store.limits.max_age_s),
            filename=filename,
            purpose=purpose,
            sha256=spool.sha256.hex(),
        )
        with self._store.locked():
            self._check_quota(spool.size)
            try:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                spool.save(self._folder / record.id)
                self._write(record)
            except OSError:
                self._remove(record.id)
                raise disk_full() from None
        return record

    def record(self, file_id: str) -> FileRecord:
        """Return the record of a file.

        Raises NotFound: when there is no such file, or it belongs to another owner.
        Raises Unavailable: on a disk error.
        """
        record = self._read(file_id) if FILE_ID.fullmatch(file_id) else None
        if record is None:
            raise no_such_file()
        return record

    def get(self, file_id: str) -> Upload:
        record = self.record(file_id)
        try:
            descriptor = os.open(self._folder / record.id, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # the file has been deleted since its record was read
            raise no_such_file() from None
        except OSError:
            raise unreadable() from None
        content = DiskBlob(descriptor, record.bytes, bytes.fromhex(record.sha256))
        return Upload(record.id, record.filename, content)

    def link(self, file_id: str, path: Path) -> None:
        """Create a hard link to a file's bytes, which stay readable when the file is deleted.

        Raises NotFound, OSError.
        """
        try:
            os.link(self._folder / self.record(file_id).id, path)
        except FileNotFoundError:  # the file was deleted after its record was read
            raise no_such_file() from None

    def adopt(
        self, path: Path, file_id: str, *, filename: str, purpose: str, lifetime_s: int | None
    ) -> None:
        """Store the finished file at `path`, which the server has written, under the id `file_id`.

        Creates a hard link, so that `path` stays. Does nothing if the file is already stored. Does
        not check the quota. Raises OSError.
        """
        if self._read(file_id) is not None:
            return
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        now = int(time.time())
        expires_at = now + (lifetime_s or self._store.limits.max_age_s)
        size = path.stat().st_size
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(path, self._folder / file_id)
        self._write(FileRecord(file_id, size, now, expires_at, filename, purpose, sha256))

    def free_bytes(self) -> int:
        """The bytes that the owner may still store."""
        limits = self._store.limits
        free = min(
            limits.owner_bytes - self.used_bytes(), limits.total_bytes - self._store.used_bytes()
        )
        return max(0, free)

    def all(self) -> list[FileRecord]:
        """Return the readable records of all files, newest first."""
        records = []
        with contextlib.suppress(FileNotFoundError):
            for name in [
                name[: -len(RECORD)] for name in os.listdir(self._folder) if RECORD in name
            ]:
                with contextlib.suppress(Unavailable):
                    if (record := self._read(name)) is not None:
                        records.append(record)
        return sorted(records, key=lambda each: (each.created_at, each.id), reverse=True)

    def delete(self, file_id: str) -> None:
        """Delete a file. Requests that have already opened it can still read it. Raises
        NotFound.
        """
        self._remove(self.record(file_id).id)

    def used_bytes(self) -> int:
        return sum(record.bytes for record in self.all())

    def _check_quota(self, size: int) -> None:
        limits, kept = self._store.limits, self.all()
        if len(kept) >= limits.owner_files:
            raise BadRequest(
                f"more than {limits.owner_files} files; delete some first", code="quota_exceeded"
            )
        if sum(record.bytes for record in kept) + size > limits.owner_bytes:
            raise TooLarge(
                f"your files would need more than {limits.owner_bytes} bytes; delete some first",
                code="quota_exceeded",
            )
        if self._store.used_bytes() + size > limits.total_bytes:
            raise disk_full()

    def _write(self, record: FileRecord) -> None:
        """Write the record of a file. Call this after the bytes are written, because a file with a
        record counts as complete.
        """
        write_record(self._folder / f"{record.id}{RECORD}", asdict(record))

    def _read(self, name: str) -> FileRecord | None:
        """Read a record. Returns None if it is missing or expired. Deletes expired files.

        Raises Unavailable: on a disk error.
        """
        try:
            record = FileRecord(**json.loads((self._folder / f"{name}{RECORD}").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        except OSError:
            raise unreadable() from None
        if record.expires_at > time.time():
            return record
        self._remove(name)
        return None

    def _remove(self, name: str) -> None:
        for suffix in (RECORD, PARTIAL, ""):
            path = self._folder / f"{name}{suffix}"
            path.unlink(missing_ok=True)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record or replace it, atomically, readable only by the server's user. Raises
    OSError.
    """
    partial = path.with_suffix(PARTIAL)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def no_such_file() -> NotFound:
    return NotFound("no such file", param="file_id", code="file_not_found")
