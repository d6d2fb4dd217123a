"""A cache folder appears whole or not at all: written beside its place, then renamed into it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from cache_index.errors import CacheError
from cache_index.manifest import MANIFEST


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """The folder to write into; it becomes `out` when the block ends without an error."""
    check_free(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.{uuid4().hex}.partial"
    partial.mkdir()
    try:
        yield partial
        replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
