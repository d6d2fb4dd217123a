"""A folder that appears only when it is complete, and that a killed conversion goes on with."""

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
    """A hidden folder beside `out` that becomes `out` at the end.

    Whatever ends the block early, a kill among it, leaves the finished files for the same command
    to go on with; without a finished file (see `ledger.py`) nothing is left.
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
    """Where an unfinished `out` lies."""
    return out.parent / f".{out.name}.partial"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two conversions into one folder would mix their files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConvertError(f"{folder}: another conversion is writing there") from None
    finally:
        os.close(descriptor)
