"""The files in a Parquet table: a column with the bytes of media, one file per row.

The column contains binary values, or structs with `bytes` and `path` as the library `datasets`
writes them. Columns `caption` (or `text`) and `id` (or `key`) are optional.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache_index.captions import Caption
from cache_index.errors import CacheError
from server.cli.bulk.place import BulkItem, Place

ROWS = 16  # rows that are read at a time
CAPTIONS, IDS = ("caption", "text"), ("id", "key")


def row_count(path: Path) -> int:
    """Count the rows. Raises CacheError: when the table cannot be read or has no media."""
    with opened(path) as table:
        media_column(table, path)
        count: int = table.metadata.num_rows
        return count


def table_items(path: Path, start: int = 0) -> Iterator[BulkItem]:
    """Yield the rows from number `start` on. Row groups before it are not read.

    Raises CacheError.
    """
    with opened(path) as table:
        media = media_column(table, path)
        names = table.schema_arrow.names
        caption = next((name for name in CAPTIONS if name in names), None)
        own_id = next((name for name in IDS if name in names), None)
        columns = [name for name in (media, caption, own_id) if name is not None]
        number = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if number + rows <= start:
                number += rows
                continue
            for batch in table.iter_batches(ROWS, row_groups=[group], columns=columns):
                for row in batch.to_pylist():
                    if number >= start:
                        yield item(path, number, row, media, caption, own_id)
                    number += 1


def item(
    path: Path,
    number: int,
    row: dict[str, Any],
    media: str,
    caption: str | None,
    own_id: str | None,
) -> BulkItem:
    value = row[media]
    if isinstance(value, dict):
        data, name = value.get("bytes") or b"", str(value.get("path") or "")
    else:
        data, name = value or b"", ""
    text = row[caption] if caption else None
    identity = str(row[own_id]) if own_id else name or str(number)
    shown = Caption(text if isinstance(text, str) else None, f"{path}/{identity}")
    # The row's number makes the id unique, because names may repeat.
    return BulkItem(Place(path, f"{number}/{name}".rstrip("/"), data=data), shown)


def opened(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise CacheError(
            f"{path}: needs the package pyarrow: install bindserve with the extra [parquet]"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise CacheError(f"{path}: not a readable Parquet file: {error}") from None


def media_column(table: Any, path: Path) -> str:
    """The name of the only column with bytes. Raises CacheError."""
    from pyarrow import types

    columns = []
    for field in table.schema_arrow:
        kind = field.type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if types.is_binary(kind) or types.is_large_binary(kind):
            columns.append(field.name)
    if len(columns) != 1:
        names = ", ".join(columns) or "none"
        raise CacheError(f"{path}: needs one column with the bytes of media, but has {names}")
    name: str = columns[0]
    return name
