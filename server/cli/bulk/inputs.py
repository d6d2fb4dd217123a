"""List the files of a bulk run in a fixed order: the files of folders and of list files, and single
files.

Opens the list files, but no media file.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from cache_index.captions import Caption
from cache_index.errors import CacheError
from server.cli.cache.media_list import LIST, MediaItem, folder_items, list_items


def is_bulk(inputs: Sequence[Path]) -> bool:
    """Whether an input is a folder or a list of files."""
    return any(path.is_dir() or path.suffix in LIST for path in inputs)


def items(inputs: Sequence[Path], start: int = 0) -> Iterator[MediaItem]:
    """Yield the files, beginning with number `start`. The id of an item is its path.

    Raises CacheError: when a list is damaged or contains URLs.
    """
    return islice(_all(inputs), start, None)


def _all(inputs: Sequence[Path]) -> Iterator[MediaItem]:
    for path in inputs:
        if path.is_dir():
            entries = folder_items(path)
        elif path.suffix in LIST:
            entries = list_items(path)
        else:
            entries = iter([MediaItem(path, Caption())])
        for item in entries:
            if isinstance(item.place, str):
                raise CacheError(f"{path}: contains a URL ({item.place[:80]}); download it first")
            yield MediaItem(item.place, Caption(item.caption.caption, str(item.place)))


def count_and_fingerprint(inputs: Sequence[Path]) -> tuple[int, str]:
    """Return the number of files, and a hash of their names and captions. Both are equal in a
    resumed run.
    """
    digest, count = hashlib.sha256(), 0
    for item in items(inputs):
        digest.update(f"{item.place}\0{item.caption}\n".encode(errors="surrogateescape"))
        count += 1
    return count, digest.hexdigest()
