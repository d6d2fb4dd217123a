"""Write the rows of a bulk run to one file: JSON lines, Parquet, or a NumPy array (with a second
file of JSON lines).

Reads one shard at a time, so that memory does not grow with the number of rows. The file appears
only when it is complete.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache_index.errors import CacheError

Row = dict[str, Any]
Shard = tuple[NDArray[np.float32], list[Row]]


def check_output(out: Path) -> None:
    """Check that `write_output` can write `out`.

    Raises CacheError: when a package is missing, or when another file would be overwritten.
    """
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise CacheError(
                "a .parquet file needs the package pyarrow: install bindserve with the extra "
                "[parquet]"
            ) from None
    if out.suffix == ".npy" and not out.exists() and (other := out.with_suffix(".jsonl")).exists():
        raise CacheError(
            f"{other}: exists already, but {out.name} needs a file of this name for its rows; "
            "choose another --out"
        )


def write_output(folder: Path, out: Path) -> int:
    """Write `out` from the shards in `folder`. Returns the number of rows.

    Raises CacheError: when no file could be embedded.
    """
    draft = folder / f"output{out.suffix}"
    rows = WRITERS[out.suffix](folder, draft)
    captions = draft.with_suffix(".captions")
    # Move the array first. If the run is killed now and resumes, `check_output` sees the array and
    # accepts the other file.
    draft.replace(out)
    # The second file contains the file names and times of the rows, which a .npy file cannot
    # contain.
    if captions.exists():
        captions.replace(out.with_suffix(".jsonl"))
    return rows


def shards(folder: Path) -> Iterator[Shard]:
    """Yield (vectors (N, D), rows) of each complete shard. A row has the file's path, its modality
    and times.
    """
    progress = json.loads((folder / "progress.json").read_bytes())
    for number in range(progress["shards"]):
        path = folder / f"{number:05d}.npy"
        lines = path.with_suffix(".jsonl").read_bytes().splitlines()
        yield np.load(path, allow_pickle=False), [as_row(json.loads(line)) for line in lines]


def as_row(line: Row) -> Row:
    """Convert a line of the shard's caption file to a row. The line's id is the path of the media
    file.
    """
    return {"file": line.pop("id"), **line}


def write_jsonl(folder: Path, path: Path) -> int:
    count = 0
    with path.open("w") as file:
        for vectors, rows in shards(folder):
            for vector, row in zip(vectors.tolist(), rows, strict=True):
                file.write(json.dumps({**row, "embedding": vector}) + "\n")
            count += len(rows)
    return count


def write_npy(folder: Path, path: Path) -> int:
    """Write an array (N, D), and the other columns as the caption file that `cache build` reads."""
    count = sum(len(rows) for _, rows in shards(folder))
    array: np.memmap[Any, np.dtype[np.float32]] | None = None
    start = 0
    with path.with_suffix(".captions").open("w") as captions:
        for vectors, rows in shards(folder):
            if array is None:
                array = new_array(path, (count, vectors.shape[1]))
            array[start : start + len(rows)] = vectors
            start += len(rows)
            for row in rows:
                captions.write(json.dumps({"id": row["file"], **row}) + "\n")
    if array is None:
        raise CacheError("none of the files could be embedded")
    array.flush()
    return count


def new_array(path: Path, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    array: np.memmap[Any, np.dtype[np.float32]]
    array = np.lib.format.open_memmap(path, "w+", np.dtype("<f4"), shape)  # type: ignore[no-untyped-call]
    return array


def write_parquet(folder: Path, path: Path) -> int:
    """Write one row group per shard, with a column of lists of float32 numbers."""
    import pyarrow as arrow
    from pyarrow import parquet

    columns = {"caption": arrow.string(), "modality": arrow.string()}
    columns |= {"start": arrow.float64(), "end": arrow.float64()}
    writer, count = None, 0
    for vectors, rows in shards(folder):
        width = vectors.shape[1]
        values = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), width)
        table = {"file": arrow.array([row["file"] for row in rows], arrow.string())}
        for name, kind in columns.items():
            table[name] = arrow.array([row.get(name) for row in rows], kind)
        batch = arrow.table({**table, "embedding": values})
        writer = writer or parquet.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
        count += len(rows)
    if writer is None:
        raise CacheError("none of the files could be embedded")
    writer.close()
    return count


WRITERS: dict[str, Callable[[Path, Path], int]] = {
    ".jsonl": write_jsonl,
    ".npy": write_npy,
    ".parquet": write_parquet,
}
