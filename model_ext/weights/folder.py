"""Write a folder under a temporary name, and rename it when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_ext.manifest import MANIFEST
from model_ext.weights.errors import ConvertError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder next to `out`, and rename it to `out` when the block ends.

    If the block raises or the process is killed, the hidden folder remains, so that the same
    command can resume. If the block raises before the ledger (`ledger.py`) records a file, the
    hidden folder is removed.

    Raises ConvertError: when `out` is not empty, or another conversion writes into it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConvertError(f"{out}: exists already; choose another folder or remove it")
    folder = partial_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        try:
            yield folder
        except BaseException:
            if not (folder / MANIFEST).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if out.exists():
            out.rmdir()
        folder.rename(out)


def partial_folder(out: Path) -> Path:
    """Return the path of the hidden folder in which `out` is written."""
    return out.parent / f".{out.name}.partial"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder, because two conversions into one folder would mix their files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConvertError(f"{folder}: another conversion is writing there") from None
    finally:
        os.close(descriptor)
