"""Write a cache folder under a temporary name and rename it when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from cache_index.errors import CacheError
from cache_index.manifest import MANIFEST

INPUTS = "inputs.json"


@contextmanager
def new_folder(out: Path, *, inputs: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `out` when the `with` block ends without an error.

    If a build is killed, its unfinished folder stays. The next build with the same `inputs` (a text
    that describes them) resumes there, because the files may have taken hours. Raises CacheError:
    when the unfinished folder has other inputs. A CacheError in the block deletes the unfinished
    folder.
    """
    check_free(out, overwrite=overwrite)
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        begin_or_resume(partial, inputs)
        try:
            yield partial
        except CacheError:
            shutil.rmtree(partial)
            raise
        (partial / INPUTS).unlink()
        replace(out, partial)


def check_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise CacheError(f"{out}: exists already; choose another folder or ask to overwrite it")
    if not (out / MANIFEST).is_file():
        raise CacheError(f"{out}: not a cache folder (no {MANIFEST}), so it is not overwritten")


def replace(out: Path, new: Path) -> None:
    """Rename `new` to `out`. A process that has the old files open can still read them."""
    if not out.exists():
        new.rename(out)
        return
    old = out.parent / f".{out.name}.{uuid4().hex}.old"
    out.rename(old)
    new.rename(out)
    shutil.rmtree(old)


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Write the file unless an earlier, interrupted run has written it."""
    if not path.exists():
        write_whole(path, write)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write the file under another name and then rename it, so that a killed process leaves no
    partial file.
    """
    partial = path.with_name(path.name + ".partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CacheError(f"{folder}: another process is building there") from None
    finally:
        os.close(descriptor)


def begin_or_resume(partial: Path, inputs: str) -> None:
    """Begin a build in the folder, or resume it.

    Raises CacheError: when the folder has files from other inputs.
    """
    begun = partial / INPUTS
    if not begun.exists():
        empty(partial)  # the build was killed before it wrote its inputs
        write_whole(begun, lambda path: path.write_text(inputs))
    elif begun.read_text() != inputs:
        raise CacheError(
            f"{partial}: holds an unfinished build from other inputs or options; repeat the same "
            "command to resume it, or delete that folder to start over"
        )


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
