"""Read the examples of training data files, in file order.

Reads tab-separated captions, JSON (conversations.py), and tar shards in the webdataset layout. This
module only locates pictures; it does not open them.
"""

import csv
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from model_ext.train.data.conversations import RowError, Turns, dialogues
from model_ext.train.data.tokens import Dialogue, Turn
from model_ext.train.errors import TrainError

CAPTION_INSTRUCTION = "Generate caption of this image"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
EMBEDDED = ".npy"


@dataclass(frozen=True, slots=True)
class Picture:
    """The location of a picture's bytes: a file, or a range of a tar shard. A file with the suffix
    .npy has stored embeddings instead.
    """

    path: Path
    offset: int = 0
    size: int | None = None

    @property
    def is_embedded(self) -> bool:
        return self.path.suffix == EMBEDDED

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
    picture: Picture | None  # None for a text-only example.
    system: str = ""  # The text in front of the prompt, with its empty line.
    id: str = ""

    @property
    def text_only(self) -> bool:
        return self.picture is None


def distinct_pictures(examples: Sequence[Example]) -> tuple[list[Picture], dict[int, int]]:
    """Return the pictures to encode, each once, and for each example the position of its picture in
    this list.
    """
    numbers, position = dict[Picture, int](), dict[int, int]()
    for number, example in enumerate(examples):
        if example.picture is not None:
            position[number] = numbers.setdefault(example.picture, len(numbers))
    return list(numbers), position


def read_examples(
    source: Path, media_root: Path, turns: Turns = "first", image_mark: bool = False
) -> list[Example]:
    """Read a source by its suffix: .tsv, .csv, .json, .jsonl, or .tar (may be a pattern with *).

    `turns`, `image_mark`: see `conversations.dialogues`.

    Raises TrainError: when a file is missing or invalid. The message names the row or example.
    """
    match source.suffix:
        case ".csv" | ".tsv":
            return list(captions(source, media_root))
        case ".json" | ".jsonl":
            return list(instructions(source, media_root, turns, image_mark))
        case ".tar":
            shards = [Path(path) for path in sorted(glob(str(source)))]
            if not shards:
                raise TrainError(f"{source}: no shard has this name")
            return [
                example for shard in shards for example in shard_examples(shard, turns, image_mark)
            ]
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


def instructions(
    path: Path, media_root: Path, turns: Turns, image_mark: bool = False
) -> Iterator[Example]:
    """Read rows of all forms in conversations.py. One file may mix the forms. The key `image`
    names a row's picture, and `embedding` a file of embeddings.
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
            picture = row_picture(row, media_root)
            yield from map(with_picture(picture), dialogues(row, turns, image_mark))
        except RowError as error:
            raise TrainError(f"{path}: example {number}: {error}") from None
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise TrainError(f"{path}: example {number}: {error!r}") from None


def row_picture(row: dict[str, Any], media_root: Path) -> Picture | None:
    """Return the picture or the embeddings of a row. Raises RowError: when it has both, or when the
    embeddings are not in a file .npy.
    """
    if "embedding" not in row:
        return Picture(media_root / row["image"]) if "image" in row else None
    picture = Picture(media_root / row["embedding"])
    if "image" in row or not picture.is_embedded:
        raise RowError(f"embedding: expected a file {EMBEDDED}, and no image beside it")
    return picture


def with_picture(picture: Picture | None) -> Callable[[Dialogue], Example]:
    return lambda dialogue: Example(dialogue.turns, picture, dialogue.system, dialogue.id)


def shard_examples(path: Path, turns: Turns, image_mark: bool = False) -> Iterator[Example]:
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
                    yield from _shard_example(path, stem, parts, turns, image_mark)
                    parts = {}
                stem = member_stem
                parts[name.suffix] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise TrainError(f"{path}: not a tar file: {error}") from None
    if parts:
        yield from _shard_example(path, stem, parts, turns, image_mark)


def _shard_example(
    path: Path, stem: str, parts: dict[str, tuple[int, int]], turns: Turns, image_mark: bool
) -> Iterator[Example]:
    span = next((parts[suffix] for suffix in PICTURES if suffix in parts), None)
    picture = Picture(path, *span) if span else None
    if ".json" in parts:
        row = json.loads(Picture(path, *parts[".json"]).read())
        if "caption" not in row:
            try:
                yield from map(with_picture(picture), dialogues(row, turns, image_mark))
            except RowError as error:
                raise TrainError(f"{path}: {stem}: {error}") from None
            return
        caption = str(row["caption"])
    elif ".txt" in parts:
        caption = Picture(path, *parts[".txt"]).read().decode()
    else:
        raise TrainError(f"{path}: {stem} has neither .txt nor .json")
    yield Example((Turn(CAPTION_INSTRUCTION, caption),), picture)


def _open(path: Path) -> Any:
    try:
        return path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise TrainError(f"{path}: {error.strerror}") from None
