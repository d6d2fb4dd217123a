"""Read the examples of training data files, in file order.

Reads tab-separated captions, LLaVA and Alpaca JSON, and tar shards in the webdataset layout. This
module only locates pictures; it does not open them.
"""

import csv
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, Literal

from model_ext.train.data.tokens import Turn
from model_ext.train.errors import TrainError

CAPTION_INSTRUCTION = "Generate caption of this image"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
Turns = Literal["first", "all"]


@dataclass(frozen=True, slots=True)
class Picture:
    """The location of a picture's bytes: a file, or a range of a tar shard."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Raises TrainError: when the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read() if self.size is None else file.read(self.size)
        except OSError as error:
            raise TrainError(f"{self.path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Example:
    turns: tuple[Turn, ...]
    picture: Picture | None  # None for a text-only example

    @property
    def text_only(self) -> bool:
        return self.picture is None


def read_examples(source: Path, media_root: Path, turns: Turns = "first") -> list[Example]:
    """Read a source by its suffix: .tsv, .csv, .json, .jsonl, or .tar (may be a pattern with *).

    Raises TrainError: when a file is missing or broken; the message names the row or example.
    """
    match source.suffix:
        case ".csv" | ".tsv":
            return list(captions(source, media_root))
        case ".json" | ".jsonl":
            return list(instructions(source, media_root, turns))
        case ".tar":
            shards = [Path(path) for path in sorted(glob(str(source)))]
            if not shards:
                raise TrainError(f"{source}: no shard has this name")
            return [example for shard in shards for example in shard_examples(shard, turns)]
    raise TrainError(f"{source}: expected .tsv, .csv, .json, .jsonl or .tar")


def captions(path: Path, media_root: Path) -> Iterator[Example]:
    """Read the columns `url` (a local path) and `caption`. Tabs separate columns, also in .csv
    files.
    """
    with _open(path) as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := {"url", "caption"} - set(reader.fieldnames or ()):
            raise TrainError(
                f"{path}: no column {', '.join(sorted(missing))}; separate the columns with tabs"
            )
        for number, row in enumerate(reader, 2):
            if row["caption"] is None or not row["url"]:
                raise TrainError(f"{path}:{number}: the row has no url or no caption")
            yield Example(
                (Turn(CAPTION_INSTRUCTION, row["caption"]),), Picture(media_root / row["url"])
            )


def instructions(path: Path, media_root: Path, turns: Turns) -> Iterator[Example]:
    """Read LLaVA's {image, conversations} and Alpaca's {instruction, input, output}, which may be
    mixed in one file.
    """
    with _open(path) as file:
        text = file.read()
    try:
        rows = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if path.suffix == ".jsonl"
            else json.loads(text)
        )
    except json.JSONDecodeError as error:
        raise TrainError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list):
        raise TrainError(f"{path}: must hold a JSON list of examples")
    for number, row in enumerate(rows):
        try:
            picture = Picture(media_root / row["image"]) if "image" in row else None
            yield Example(_turns(row, turns), picture)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise TrainError(f"{path}: example {number}: {error!r}") from None


def _turns(row: dict[str, Any], turns: Turns) -> tuple[Turn, ...]:
    if "conversations" not in row:
        return (Turn(str(row["instruction"]), str(row["output"]), str(row.get("input") or "")),)
    messages = [str(message["value"]) for message in row["conversations"]]
    conversation = tuple(Turn(messages[i], messages[i + 1]) for i in range(0, len(messages) - 1, 2))
    if not conversation:
        raise IndexError("a conversation needs a question and an answer")
    return conversation if turns == "all" else conversation[:1]


def shard_examples(path: Path, turns: Turns) -> Iterator[Example]:
    """Read examples from a tar shard. The files of an example have the same stem: the picture, .txt
    (caption) and .json.

    The shard is not unpacked: training reads pictures from the tar file.
    """
    stem, parts = "", dict[str, tuple[int, int]]()  # suffix -> offset and size in the tar file
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = Path(member.name)
                member_stem = str(name.with_suffix(""))
                if member_stem != stem and parts:
                    yield _shard_example(path, stem, parts, turns)
                    parts = {}
                stem = member_stem
                parts[name.suffix] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise TrainError(f"{path}: not a tar file: {error}") from None
    if parts:
        yield _shard_example(path, stem, parts, turns)


def _shard_example(
    path: Path, stem: str, parts: dict[str, tuple[int, int]], turns: Turns
) -> Example:
    span = next((parts[suffix] for suffix in PICTURES if suffix in parts), None)
    picture = Picture(path, *span) if span else None
    if ".json" in parts:
        row = json.loads(Picture(path, *parts[".json"]).read())
        if "caption" in row:
            return Example((Turn(CAPTION_INSTRUCTION, str(row["caption"])),), picture)
        return Example(_turns(row, turns), picture)
    if ".txt" in parts:
        caption = Picture(path, *parts[".txt"]).read().decode()
        return Example((Turn(CAPTION_INSTRUCTION, caption),), picture)
    raise TrainError(f"{path}: {stem} has neither .txt nor .json")


def _open(path: Path) -> Any:
    try:
        return path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}") from None
