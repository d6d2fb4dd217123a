"""The server's private folder for clients' files (scratch folder). It exists while the server runs.

A server deletes its folder when it ends. If a server is killed, the next server deletes that
folder.
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
    """Create a folder with mode 0700 in `parent` (default: the system's temporary folder). Delete
    it at the end.

    Raises OSError.
    """
    parent = parent or Path(tempfile.gettempdir())
    delete_left_over(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Other servers do not delete the folder while the lock file is empty.
            print(os.getpid(), file=lock, flush=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_left_over(parent: Path) -> None:
    """Delete the user's scratch folders that no running server has locked.

    The kernel releases the lock of a killed process. A folder without a lock file, or with an empty
    one, belongs to a server that is starting.
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
