"""A cache folder appears whole or not at all: written beside its place, then renamed into it."""

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
    """The folder to write into; it becomes `out` when the block ends without an error.

    A build that is killed leaves its unfinished folder; the next one with the same `inputs` (any
    text that describes them) finds in it what was done, one with others is refused: what was done
    may have taken hours. An error of ours leaves nothing.
    """
    check_free(out, overwrite=overwrite)
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        begin_or_go_on(partial, inputs)
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
        raise CacheError(f"{out}: not a cache folder (no {MANIFEST}), it will not be overwritten")


def replace(out: Path, new: Path) -> None:
    """`new` takes the name `out`. Who has the old files open keeps them."""
    if not out.exists():
        new.rename(out)
        return
    old = out.parent / f".{out.name}.{uuid4().hex}.old"
    out.rename(old)
    new.rename(out)
    shutil.rmtree(old)


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Unless an earlier run did."""
    if not path.exists():
        write_whole(path, write)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Never half a file under this name, whenever the process dies."""
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


def begin_or_go_on(partial: Path, inputs: str) -> None:
    """CacheError if what was begun there is something else."""
    begun = partial / INPUTS
    if not begun.exists():
        empty(partial)  # killed before it could say what it is: it did nothing either
        write_whole(begun, lambda path: path.write_text(inputs))
    elif begun.read_text() != inputs:
        raise CacheError(
            f"{partial}: holds what was made from other inputs or options; give the same again to "
            "go on, or delete that folder to start over"
        )


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
