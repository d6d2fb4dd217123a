"""captions.jsonl: the caption of each feature, read from disk line by line.

A memory-mapped array contains the position of each row's line, so that millions of captions need
almost no memory. A line is a JSON object {"caption": ..., "id": ...}; both keys are optional. A
line may have other keys with texts or numbers. A search returns them, and can use them as a filter.
"""

import json
import math
import os
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache_index.errors import CacheError
from cache_index.manifest import CAPTIONS, OFFSETS, REBUILD, Manifest

MAX_LINE_BYTES = 1 << 16

Fields = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Caption:
    caption: str | None = None
    id: str | None = None
    # Other keys of the line, for example the start and end of a window in seconds.
    fields: Fields = field(default_factory=dict)


class Captions:
    """Open caption files for reading. If the caption file is missing, all captions are empty."""

    def __init__(self, file: int | None, offsets: NDArray[np.int64], path: Path) -> None:
        self._file = file  # file descriptor for pread, which needs no lock
        self.close = weakref.finalize(self, os.close, file) if file is not None else lambda: None
        self._offsets = offsets  # start of each row's line and the end of the file (N + 1,)
        self._path = path

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> "Captions":
        path = folder / CAPTIONS
        if CAPTIONS not in manifest.files:
            return cls(None, np.zeros(0, dtype=np.int64), path)
        try:
            offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise CacheError(f"{folder / OFFSETS}: not a readable .npy file ({error})") from None
        end = manifest.files[CAPTIONS].bytes
        if (
            offsets.dtype != np.int64
            or offsets.shape != (manifest.count + 1,)
            or offsets[-1] != end
        ):
            raise CacheError(f"{folder / OFFSETS}: does not belong to {CAPTIONS}; {REBUILD}")
        return cls(os.open(path, os.O_RDONLY), offsets, path)

    def __getitem__(self, row: int) -> Caption:
        if self._file is None:
            return Caption()
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        if not 0 <= end - start <= MAX_LINE_BYTES:
            raise CacheError(f"{self._path}: line {row + 1} is {end - start} bytes; {REBUILD}")
        return parse(os.pread(self._file, end - start, start), self._path, row + 1)


def read_captions(path: Path) -> Iterator[Caption]:
    """Read captions from a text file (one a line) or .jsonl (strings or {"caption", "id"}
    objects).
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise CacheError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes")
                if path.suffix == ".jsonl":
                    yield parse(line, path, number)
                else:
                    yield Caption(caption=line.decode(errors="replace").rstrip("\r\n"))
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}") from None


def write_captions(folder: Path, captions: Iterable[Caption], count: int, source: Path) -> None:
    """Write the caption file and its offsets. Raises CacheError: when there are not `count`
    captions.
    """
    offsets = np.zeros(count + 1, dtype=np.int64)
    row = 0
    with (folder / CAPTIONS).open("wb") as file:
        for row, caption in enumerate(captions, start=1):
            if row > count:
                break
            line = as_line(caption)
            if len(line) > MAX_LINE_BYTES:
                raise CacheError(f"{source}: caption {row} is longer than {MAX_LINE_BYTES} bytes")
            offsets[row] = offsets[row - 1] + file.write(line)
    if row != count:
        at_least = "more than " if row > count else ""
        raise CacheError(f"{source}: {at_least}{min(row, count)} captions for {count} features")
    np.save(folder / OFFSETS, offsets)


def as_line(caption: Caption) -> bytes:
    fields = {"caption": caption.caption, "id": caption.id}
    present = {key: value for key, value in fields.items() if value is not None} | caption.fields
    return json.dumps(present, ensure_ascii=False).encode(errors="replace") + b"\n"


def parse(line: bytes, path: Path, number: int) -> Caption:
    """Parse a line. Raises CacheError: when the line has another form, or a number that is not
    finite, such as NaN or 1e999.
    """
    try:
        value = json.loads(line, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        raise CacheError(
            f"{path}: line {number} is not JSON, or contains a number that is not finite"
        ) from None
    if isinstance(value, str):
        return Caption(caption=clean(value))
    if isinstance(value, dict):
        caption, own_id = value.get("caption"), value.get("id")
        if isinstance(caption, str | None) and isinstance(own_id, str | int | None):
            return Caption(
                caption and clean(caption),
                None if own_id is None else clean(own_id),
                read_fields(value),
            )
    raise CacheError(f'{path}: line {number} must be a string or an object with "caption" and "id"')


def finite(text: str) -> float:
    """Parse a number of a line. Raises ValueError: when the number is not finite."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number


def read_fields(line: dict[str, Any]) -> Fields:
    """Return the keys of a line other than caption and id, without lists and objects."""
    return {
        clean(key): clean(value) if isinstance(value, str) else value
        for key, value in line.items()
        if key not in ("caption", "id") and isinstance(value, str | int | float | bool | None)
    }


def clean(text: str | int) -> str:
    """Replace unpaired surrogates (JSON "\\ud800"), which a response cannot encode."""
    return str(text).encode(errors="replace").decode()
