"""The files of a tar shard in the webdataset layout. Does not unpack the shard.

Files with the same name before the first dot belong together: .txt, or "caption" in .json, is the
caption of the others.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from cache_index.captions import MAX_LINE_BYTES, Caption
from cache_index.errors import CacheError
from server.cli.bulk.place import BulkItem, Place

# Parts of an example that are not media.
NOTES = (".txt", ".json", ".cls", ".id", ".index")
MAX_CAPTION_BYTES = MAX_LINE_BYTES // 4


def tar_items(path: Path) -> Iterator[BulkItem]:
    """Yield the media of each example, in the order of the shard.

    Raises CacheError: when the shard is damaged or compressed.
    """
    stem, members = "", list[tarfile.TarInfo]()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile() or Path(member.name).name.startswith("."):
                    continue
                if (own := stem_of(member)) != stem:
                    yield from example(path, members)
                    stem, members = own, []
                members.append(member)
        yield from example(path, members)
    except (tarfile.TarError, EOFError) as error:
        raise CacheError(f"{path}: not a readable tar file without compression: {error}") from None


def stem_of(member: tarfile.TarInfo) -> str:
    folder, _, name = member.name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def example(path: Path, members: list[tarfile.TarInfo]) -> Iterator[BulkItem]:
    caption = None
    for member in members:
        if member.name.endswith((".txt", ".json")):
            text = place_of(path, member).read(MAX_CAPTION_BYTES) if fits(member) else b""
            caption = caption_in(text, member.name) or caption
    media = [member for member in members if not member.name.endswith(NOTES)]
    for member in media:
        yield BulkItem(place_of(path, member), Caption(caption, f"{path}/{member.name}"))


def place_of(path: Path, member: tarfile.TarInfo) -> Place:
    return Place(path, member.name, member.offset_data, member.size)


def fits(member: tarfile.TarInfo) -> bool:
    return 0 < member.size <= MAX_CAPTION_BYTES


def caption_in(data: bytes, name: str) -> str | None:
    text = data.decode(errors="replace").strip()
    if name.endswith(".txt"):
        return text or None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    caption = document.get("caption") if isinstance(document, dict) else None
    return caption if isinstance(caption, str) else None
