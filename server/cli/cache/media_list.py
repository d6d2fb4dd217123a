"""List the media from which a cache is built: the files of a folder, or the rows of a tab-separated
list.

Reads names and captions, but opens no media file.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cache_index.captions import MAX_LINE_BYTES, Caption
from cache_index.errors import CacheError

FEATURES = (".npy", ".safetensors")
LIST = (".tsv", ".csv")
CAPTION = ".txt"  # suffix of the caption file beside a media file
WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class MediaItem:
    place: Path | str  # path of a file, or an http(s) URL
    caption: Caption


@dataclass(frozen=True, slots=True)
class MediaList:
    source: Path
    count: int
    fingerprint: str  # hash of all names and captions in their order

    def items(self, start: int = 0) -> Iterator[MediaItem]:
        items = folder_items(self.source) if self.source.is_dir() else list_items(self.source)
        return islice(items, start, None)


def read_media_list(source: Path, *, urls: bool) -> MediaList:
    """Read the whole list now, so that a bad row raises CacheError before the encoding,
    which takes long.
    """
    digest, count = hashlib.sha256(str(source.resolve()).encode()), 0
    for item in MediaList(source, 0, "").items():
        count += 1
        if isinstance(item.place, str) and not urls:
            raise CacheError(
                f"{source}: contains URLs ({item.place[:80]}); add --allow-media-urls to fetch them"
            )
        digest.update(f"{item.place}\0{item.caption}\n".encode(errors="replace"))
    if not count:
        raise CacheError(f"{source}: contains no files")
    return MediaList(source, count, digest.hexdigest())


def folder_items(folder: Path) -> Iterator[MediaItem]:
    """Yield the media files of a folder in sorted order. An item's id is its path in the folder.
    Skips hidden files.
    """
    paths = sorted(folder.rglob("*"))
    stems = media_stems(paths)
    for path in paths:
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        is_caption = path.suffix == CAPTION and path.with_suffix("") in stems
        if hidden or is_caption or not path.is_file():
            continue
        yield MediaItem(path, Caption(caption_beside(path), name.as_posix()))


def printable(place: Path | str) -> str:
    """Return a file's name for messages. Bytes that are not UTF-8 are escaped as \\udcff."""
    return str(place).encode(errors="backslashreplace").decode()


def media_stems(paths: Iterable[Path]) -> set[Path]:
    """Return the paths of all files except .txt files, without their last suffixes: x and x.left
    for x.left.wav. A .txt file with one of these stems is the caption of that file.
    """
    stems = set()
    for path in paths:
        if path.suffix == CAPTION:
            continue
        stem = path
        while stem.suffix:
            stem = stem.with_suffix("")
            stems.add(stem)
    return stems


def caption_beside(path: Path) -> str | None:
    beside = path.with_suffix(CAPTION)
    if beside == path or not beside.is_file():
        return None
    with beside.open("rb") as file:
        return file.read(MAX_LINE_BYTES // 4).decode(errors="replace").strip()


def list_items(path: Path) -> Iterator[MediaItem]:
    """Yield the rows of a list. Columns: url, optionally caption and id (default: the url)."""
    with opened(path) as rows:
        columns = set(rows.fieldnames or ())
        if "url" not in columns:
            raise CacheError(
                f"{path}: no column url; the first line must name the columns, separated by tabs"
            )
        for row in rows:
            if not (url := row["url"]):
                raise CacheError(f"{path}: line {rows.line_num} has no url")
            place = url if url.startswith(WEB) else path.parent / url
            yield MediaItem(place, Caption(row.get("caption"), row.get("id") or url))


@contextmanager
def opened(path: Path) -> "Iterator[csv.DictReader[str]]":
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CacheError(f"{path}: {error}") from None
