"""The folder of batches. Every batch has a record, a link to its input file, and its results.

Only the process that holds the lock of a batch changes its record. Every API key has its own
sub-folder. All functions block on the disk, so call them in a thread.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from server.api.batches.record import BatchRecord
from server.errors import NotFound, TooManyRequests
from server.media.blob import unreadable
from server.media.files import write_record
from server.media.spool import disk_full

BATCH_ID = re.compile("batch_[0-9a-f]{32}")
RECORD, INPUT, CANCEL, LOCK = ".json", ".input", ".cancel", ".lock"
OUTPUT, ERRORS = ".output", ".errors"
ANONYMOUS = "anonymous"  # the folder of clients without API keys


class BatchStore:
    def __init__(self, folder: Path, *, owner_batches: int, max_age_s: int) -> None:
        """`folder`: an existing folder that only the server can access. `owner_batches`: maximum
        number of unfinished batches of one owner. `max_age_s`: seconds after which a finished batch
        is deleted.
        """
        self._folder = folder / "batches"
        self._owner_batches = owner_batches
        self._max_age_s = max_age_s

    def of(self, owner: str) -> "OwnedBatches":
        """Return the batches of one owner. `owner`: hexadecimal digits that identify an API key, or
        "" for all clients of a server without keys.
        """
        folder = self._folder / (owner or ANONYMOUS)
        return OwnedBatches(owner, folder, self._owner_batches)

    def unfinished(self) -> Iterator[tuple["OwnedBatches", BatchRecord]]:
        """Yield the unfinished batches of all owners, oldest first within each owner."""
        for owned in self._owners():
            for record in reversed(owned.all()):
                if not record.final:
                    yield owned, record

    def sweep(self) -> None:
        """Delete batches that finished more than `max_age_s` seconds ago. Raises OSError."""
        limit = time.time() - self._max_age_s
        for owned in self._owners():
            for record in owned.all():
                if record.final and max(record.times.values(), default=0) < limit:
                    owned.delete(record.id)
                elif record.final:
                    owned.clean(record.id)  # a killed server may not have done this

    def _owners(self) -> list["OwnedBatches"]:
        if not self._folder.exists():
            return []
        names = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        return [self.of("" if name == ANONYMOUS else name) for name in names]


class OwnedBatches:
    def __init__(self, owner: str, folder: Path, max_unfinished: int) -> None:
        self.owner = owner
        self._folder = folder
        self._max_unfinished = max_unfinished

    def path(self, batch_id: str, suffix: str) -> Path:
        return self._folder / f"{batch_id}{suffix}"

    def create(self, record: BatchRecord, link_input: Callable[[Path], object]) -> None:
        """Store a new batch. `link_input(path)` creates a hard link to the input file.

        Raises TooManyRequests: when the owner has too many unfinished batches.
        Raises Unavailable: when the disk is full. NotFound: when the input file is deleted.
        """
        try:
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            with exclusive(self._folder / LOCK):
                self._check_count()
                link_input(self.path(record.id, INPUT))
                self.save(record)
        except OSError:
            self.delete(record.id)
            raise disk_full() from None

    def _check_count(self) -> None:
        if sum(not each.final for each in self.all()) >= self._max_unfinished:
            raise TooManyRequests(
                f"more than {self._max_unfinished} unfinished batches; wait until one has ended",
                code="batch_limit_exceeded",
            )

    def save(self, record: BatchRecord) -> None:
        """Replace the record of a batch atomically. Raises OSError."""
        write_record(self.path(record.id, RECORD), asdict(record))

    def get(self, batch_id: str) -> BatchRecord:
        """Read a record. Raises NotFound: when the owner has no such batch. Raises Unavailable."""
        record = self._read(batch_id) if BATCH_ID.fullmatch(batch_id) else None
        if record is None:
            raise no_such_batch()
        return record

    def all(self) -> list[BatchRecord]:
        """The readable records of all batches, newest first."""
        records = []
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                batch_id, suffix = os.path.splitext(name)
                if suffix == RECORD and (record := self._read(batch_id)) is not None:
                    records.append(record)
        return sorted(records, key=lambda each: (each.created_at, each.id), reverse=True)

    def cancel(self, batch_id: str) -> None:
        """Create a file that asks for cancellation. The process that runs the batch looks for this
        file regularly, and then stops the batch.
        """
        try:
            self.path(batch_id, CANCEL).touch(mode=0o600)
        except OSError:
            raise disk_full() from None

    def cancelling_at(self, batch_id: str) -> int | None:
        """Return the Unix time when the client cancelled the batch, or None."""
        try:
            return int(self.path(batch_id, CANCEL).stat().st_mtime)
        except OSError:
            return None

    def open_input(self, batch_id: str) -> BinaryIO:
        """Raises OSError."""
        return self.path(batch_id, INPUT).open("rb")

    def clean(self, batch_id: str) -> None:
        """Delete all files of a finished batch except its record. Raises OSError."""
        for suffix in (INPUT, OUTPUT, ERRORS, CANCEL):
            self.path(batch_id, suffix).unlink(missing_ok=True)

    def delete(self, batch_id: str) -> None:
        self.clean(batch_id)
        for suffix in (RECORD, LOCK):
            self.path(batch_id, suffix).unlink(missing_ok=True)

    @contextmanager
    def lock(self, batch_id: str) -> Iterator[bool]:
        """Yield whether this process now holds the lock of the batch. The kernel releases the lock
        when the process is killed. Raises OSError.
        """
        with self.path(batch_id, LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _read(self, batch_id: str) -> BatchRecord | None:
        try:
            return BatchRecord(**json.loads(self.path(batch_id, RECORD).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        except OSError:
            raise unreadable() from None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock file at `path`, and hold it inside the `with` block. Raises OSError."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def no_such_batch() -> NotFound:
    return NotFound("no such batch", param="batch_id", code="batch_not_found")
