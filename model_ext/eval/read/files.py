"""Read files whose content is untrusted: limit their sizes, and keep paths inside one folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_ext.eval.errors import DataError

MAX_FILE_BYTES = 1 << 30  # Maximum size of a file that is read as a whole.
MAX_LINE_BYTES = 1 << 26  # Maximum size of a line, which can contain a data: URI.


def read_text(path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
    """The text of a UTF-8 file.

    Raises DataError: when the file is missing, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as e:
        raise DataError(path, f"cannot be read: {e.strerror}") from e
    if len(data) > max_bytes:
        raise DataError(path, f"is larger than {max_bytes} bytes")
    return decode(data, path)


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises DataError: as `read_text`, or when it is not JSON."""
    return parse_json(read_text(path), path)


def read_lines(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str]]:
    """Yield (row, line) for each non-blank line of a UTF-8 file. The first row is 1.

    Raises DataError: when the file is missing, a line is too long, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            row = 0
            while data := file.readline(max_bytes + 1):
                row += 1
                if len(data) > max_bytes:
                    raise DataError(path, f"the line is longer than {max_bytes} bytes", row)
                if line := decode(data, path, row).strip("\r\n"):
                    yield row, line
    except OSError as e:
        raise DataError(path, f"cannot be read: {e.strerror}") from e


def parse_json(text: str, path: Path, row: int | None = None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DataError(path, f"is not valid JSON: {e}", row) from e


def decode(data: bytes, path: Path, row: int | None = None) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(path, "is not UTF-8 text", row) from e


def below(folder: Path, name: str, source: Path, row: int | str | None = None) -> Path:
    """The path `name` below `folder`. The path need not exist.

    Raises DataError: when the path is outside of the folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(source, f"{name!r} is not a path below {folder}", row)
    return folder / name


def inside(folder: Path, name: str, source: Path, row: int | str | None = None) -> Path:
    """The path of an existing file `name` below `folder`. Symbolic links may point outside of
    `folder`.

    Raises DataError: when the path is outside of the folder or the file does not exist.
    """
    path = below(folder, name, source, row)
    if not exists(path):
        raise DataError(source, f"the file {path} does not exist", row)
    return path


def exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def first_existing(*paths: Path) -> Path:
    """Return the first path that exists. Raises DataError: when none of them exists."""
    for path in paths:
        if path.exists():
            return path
    raise DataError(paths[0], "does not exist; see the task's expected files")


def field(record: Any, name: str, path: Path, row: int | str | None = None) -> Any:
    """A value of a JSON object. Raises DataError: when the record has no such field."""
    if not isinstance(record, dict) or name not in record:
        raise DataError(path, f"the field {name!r} is missing", row)
    return record[name]


def text_field(record: Any, name: str, path: Path, row: int | str | None = None) -> str:
    value = field(record, name, path, row)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(path, f"the field {name!r} is not text", row)
    return str(value)


def list_field(record: Any, name: str, path: Path, row: int | str | None = None) -> list[Any]:
    value = field(record, name, path, row)
    if not isinstance(value, list):
        raise DataError(path, f"the field {name!r} is not a list", row)
    return value


def texts_field(record: Any, name: str, path: Path, row: int | str | None = None) -> list[str]:
    values = list_field(record, name, path, row)
    return [text_field({name: value}, name, path, row) for value in values]
