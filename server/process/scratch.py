"""The server's two private folders: the scratch folder for clients' files, and the run folder for
sockets and temporary files. The server deletes them when it ends.

If a server was killed, the next server deletes its folders.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.process.cache_folder import cache_folder

PREFIX = "bindserve-files-"
RUN = "run"
TORCH_CACHE = "torchinductor"
# The kernel allows 107 bytes for the path of a socket. vLLM's sockets have names of 36 bytes.
MAX_RUN_PATH = 107 - 1 - 36
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
            # The lock file is still empty, so other servers do not delete the folder.
            print(os.getpid(), file=lock, flush=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_folder(scratch: Path) -> Iterator[Path]:
    """Create the run folder, for sockets and temporary files, and delete it at the end.

    It is inside the scratch folder or, if that path is too long for sockets, inside another scratch
    folder below the system's temporary folder.

    Raises OSError: when both paths are too long.
    """
    if len(os.fsencode(scratch / RUN)) <= MAX_RUN_PATH:
        (scratch / RUN).mkdir(mode=0o700, exist_ok=True)
        yield scratch / RUN
        return
    with scratch_folder() as folder:
        if len(os.fsencode(folder)) > MAX_RUN_PATH:
            raise OSError(
                f"the path of the temporary folder {tempfile.gettempdir()} is too long for "
                "sockets: set TMPDIR to a folder with a short path"
            )
        yield folder


def run_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables with which child processes, and vLLM in them, use the run
    folder.

    torch's compile cache is in the user's cache folder instead, because the next start can use it.
    If this folder is missing or read-only, it is also in the run folder.
    """
    try:
        compiled = cache_folder() / TORCH_CACHE
        compiled.mkdir(parents=True, exist_ok=True)
        writable = os.access(compiled, os.W_OK)
    except (OSError, RuntimeError):
        writable = False
    if not writable:
        compiled = folder / TORCH_CACHE
    return {
        "TMPDIR": str(folder),
        "VLLM_RPC_BASE_PATH": os.environ.get("VLLM_RPC_BASE_PATH", str(folder)),
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(compiled)),
    }


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
