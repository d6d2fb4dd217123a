"""bindserve's data format: one JSON object per line, with files of any of seven modalities."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from model_ext.eval.errors import DataError
from model_ext.eval.item import MODALITIES, Item, WithMedia
from model_ext.eval.read.files import inside, parse_json, read_lines


def read_jsonl(path: Path) -> Iterator[Item]:
    """The items of a file. Paths of media are relative to the file's folder.

    Raises DataError: when a row is not valid, repeats an id, or names a missing file.
    """
    ids: set[str] = set()
    for row, line in read_lines(path):
        try:
            item = Item.model_validate(parse_json(line, path, row))
        except ValidationError as e:
            error = e.errors()[0]
            where = ".".join(map(str, error["loc"])) or "the row"
            raise DataError(path, f"{where}: {error['msg']}", row) from e
        if item.id in ids:
            raise DataError(path, f"the id {item.id!r} is repeated", row)
        ids.add(item.id)
        earlier = [turn.model_copy(update=absolute_media(turn, path, row)) for turn in item.earlier]
        media = absolute_media(item, path, row)
        yield item.model_copy(update={**media, "earlier": earlier}).at(path, row)


def absolute_media(item: WithMedia, path: Path, row: int) -> dict[str, str | list[str]]:
    media: dict[str, str | list[str]] = {}
    for modality in MODALITIES:
        value = getattr(item, modality)
        if isinstance(value, str):
            media[modality] = resolve(value, path, row)
        elif value is not None:
            media[modality] = [resolve(source, path, row) for source in value]
    return media


def resolve(source: str, path: Path, row: int) -> str:
    return source if source.startswith("data:") else str(inside(path.parent, source, path, row))
