"""List the files of a bulk run in a fixed order: those of folders, lists, tar shards and Parquet
tables, and single files.

Opens no media file. Reads only the needed rows of a table.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cache_index.captions import Caption
from cache_index.errors import CacheError
from server.cli.bulk.place import BulkItem, Place
from server.cli.bulk.table import row_count, table_items
from server.cli.bulk.tar import tar_items
from server.cli.cache.media_list import LIST, MediaItem, folder_items, list_items

TAR, TABLE = ".tar", ".parquet"


def is_bulk(inputs: Sequence[Path]) -> bool:
    """Whether an input is a folder, a list, a tar shard or a table."""
    return any(path.is_dir() or path.suffix in (*LIST, TAR, TABLE) for path in inputs)


def items(inputs: Sequence[Path], start: int = 0) -> Iterator[BulkItem]:
    """Yield the files from number `start` on. The id of an item names the file.

    Raises CacheError: when an input is damaged or contains URLs.
    """
    for path in inputs:
        if path.suffix == TABLE:
            count = row_count(path)
            if start < count:
                yield from table_items(path, start)
        else:
            count = 0
            for item in _all(path):
                count += 1
                if count > start:
                    yield item
        start = max(0, start - count)


def count_and_fingerprint(inputs: Sequence[Path]) -> tuple[int, str]:
    """Return the number of files, and a hash of their names and captions. A resumed run must have
    the same number and hash. For a table, the hash contains only the file's size and number of
    rows.
    """
    digest, count = hashlib.sha256(), 0
    for path in inputs:
        if path.suffix == TABLE:
            rows = row_count(path)
            digest.update(
                f"{path}\0{path.stat().st_size}\0{rows}\n".encode(errors="surrogateescape")
            )
            count += rows
            continue
        for item in _all(path):
            digest.update(f"{item.place}\0{item.caption}\n".encode(errors="surrogateescape"))
            count += 1
    return count, digest.hexdigest()


def _all(path: Path) -> Iterator[BulkItem]:
    if path.suffix == TAR:
        return tar_items(path)
    if path.is_dir():
        return map(of_media_item, folder_items(path))
    if path.suffix in LIST:
        return map(of_media_item, list_items(path))
    return iter([BulkItem(Place(path), Caption(None, str(path)))])


def of_media_item(item: MediaItem) -> BulkItem:
    if isinstance(item.place, str):
        raise CacheError(f"the list contains a URL ({item.place[:80]}); download it first")
    return BulkItem(Place(item.place), Caption(item.caption.caption, str(item.place)))
