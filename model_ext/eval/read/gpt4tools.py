"""GPT4Tools' files: a JSON list of rows {"instruction", "input", "output"}."""

from collections.abc import Iterator
from pathlib import Path

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import read_json, text_field


def read_gpt4tools(path: Path) -> Iterator[Item]:
    """Read the rows as items of the task GPT4Tools/NAME, where NAME is the file's name.

    Raises DataError: when the file is not a JSON list of rows.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(path, "is not a JSON list of rows")
    for number, row in enumerate(rows, 1):
        yield Item(
            id=str(number),
            task=f"GPT4Tools/{path.stem.replace(',', ' ')}",
            question=text_field(row, "instruction", path, number),
            answers=[text_field(row, "output", path, number)],
            metric="tool_success",
        ).at(path, number)
