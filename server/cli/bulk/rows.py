"""The rows and the skipped files of a bulk run, in the order of the files."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache_index.captions import Caption
from cache_index.shards import ShardWriter
from model_ext.conditioning import Vector
from server.cli.bulk.place import BulkItem
from server.cli.cache.media_list import printable

Rows = list[tuple[Vector, Caption]]  # the embeddings (D,) of one file, or of its windows


class Failures:
    """The list of skipped files, one line per file: number, path and reason, separated by tabs."""

    def __init__(self, path: Path, consumed: int, bar: "tqdm[Any]") -> None:
        """Drop the lines of files that the resumed run embeds again."""
        self._path, self._bar = path, bar
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if int(line.split("\t")[0]) < consumed]
        path.write_text("".join(kept))

    def add(self, number: int, item: BulkItem, reason: str) -> None:
        self._bar.write(f"skipped {printable(str(item.place))}: {reason}")
        with self._path.open("a") as file:
            file.write(f"{number}\t{str(item.place)!r}\t{reason!r}\n")


class RowSink:
    """Receives the result of each file in the files' order, and writes it to the run's shards."""

    def __init__(self, writer: ShardWriter, failures: Failures, bar: "tqdm[Any]") -> None:
        self._writer, self._failures, self._bar = writer, failures, bar
        bar.update(writer.consumed)

    @property
    def consumed(self) -> int:
        """The number of files whose results have been written; a resumed run skips them."""
        return self._writer.consumed

    def add(self, item: BulkItem, result: Rows | str) -> None:
        """Write the rows of the next file, or the reason why it has none."""
        if isinstance(result, str):
            self._failures.add(self._writer.consumed, item, result)
            self._writer.skip()
        else:
            self._writer.append_all(result)
        self._bar.update()

    def flush(self) -> None:
        self._writer.flush()
