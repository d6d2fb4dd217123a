"""The server's folder for what clients send: private, and gone when the server is.

A server that ends deletes its own; what a killed one left, the next one deletes.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "bindserve-files-"
LOCK = "lock"  # held, shared, as long as a process of the server lives


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Mode 0700, in `parent` or the system's folder for such files. OSError."""
    parent = parent or Path(tempfile.gettempdir())
    delete_left_over(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            print(os.getpid(), file=lock, flush=True)  # only now may others try the lock
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_left_over(parent: Path) -> None:
    """Folders of ours that nobody holds: the kernel releases the lock of a killed process.

    One whose lock is missing or empty belongs to a server that starts at this moment.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open() as lock:
                if not os.fstat(lock.fileno()).st_size:
                    continue
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
