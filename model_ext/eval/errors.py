"""The error of an evaluation's input."""

from pathlib import Path


class DataError(ValueError):
    """A data set, or a file of answers, that cannot be used. The message names file and row."""

    def __init__(self, path: Path | str, problem: str, row: int | str | None = None) -> None:
        where = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{where}: {problem}")
