"""The server's private folder for clients' files, which exists as long as the server runs.

A server deletes its folder when it ends. The next server deletes the folder of a killed server.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "bindserve-files-"
LOCK = "lock"  # the server's processes hold a shared lock on this file


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder of mode 0700 in `parent` or the system's temporary folder, and delete it.

    Raises OSError.
    """
    parent = parent or Path(tempfile.gettempdir())
    delete_left_over(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Another server ignores the folder while the lock file is empty.
            print(os.getpid(), file=lock, flush=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_left_over(parent: Path) -> None:
    """Delete the user's scratch folders that no server has locked.

    The kernel releases the lock of a killed process. A folder whose lock is missing or empty
    belongs to a server that is starting.
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
