"""A URL that several attachments of a request have is downloaded once."""

from typing import Any

import pytest

from server.conditioning import fetches as module
from server.conditioning.fetches import Fetches
from server.errors import TooLarge
from server.media.attachments import Attachment
from server.media.blob import Blob, MemoryBlob
from server.media.sources import Link


class Downloads:
    """Counts downloads. Each file contains four bytes."""

    def __init__(self) -> None:
        self.links: list[Link] = []

    async def fetch(self, link: Link) -> Blob:
        self.links.append(link)
        if link.max_bytes < 4:
            raise TooLarge("the file is larger than 3 bytes")
        return MemoryBlob(b"file")


def attachment(name: str, max_bytes: int = 10, modality: str = "image") -> Attachment:
    return Attachment(modality, Link(f"https://x/{name}", max_bytes), 1.0, f"input[{name}]")


async def contents(attachments: list[Attachment], **options: Any) -> list[Link]:
    downloads = Downloads()
    fetches = Fetches(downloads, attachments, **options)
    for each in attachments:
        assert (await fetches.content(each)).head() == b"file"
    return downloads.links


async def test_equal_urls_are_downloaded_once() -> None:
    one, two = attachment("1"), attachment("2")
    assert len(await contents([one, two, one, one])) == 2
    assert len(await contents([one, two, one, one], uses=2)) == 2


async def test_only_files_that_are_used_again_are_kept() -> None:
    one, two = attachment("1"), attachment("2")
    fetches = Fetches(Downloads(), [one, two, one], uses=2)
    for each in (one, two):
        await fetches.content(each)
    assert list(fetches._tasks) == ["https://x/1"]


async def test_a_video_and_its_sound_share_a_download_with_the_larger_limit() -> None:
    video, sound = attachment("1", 100, "video"), attachment("1", 10, "audio")
    assert await contents([sound, video]) == [Link("https://x/1", 100)]
    small = attachment("1", 3, "audio")
    fetches = Fetches(Downloads(), [small, video], uses=2)
    with pytest.raises(TooLarge) as error:
        await fetches.content(small)
    assert error.value.param == "input[1]"
    assert (await fetches.content(video)).size == 4


async def test_the_number_of_kept_files_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    one, two = attachment("1"), attachment("2")
    links = await contents([one, two, one, two], uses=2)
    assert [link.url[-1] for link in links] == ["1", "2", "2"]


async def test_a_failed_download_keeps_no_file() -> None:
    small = attachment("1", 3)
    fetches = Fetches(Downloads(), [small, small])
    with pytest.raises(TooLarge):
        await fetches.content(small)
    assert not fetches._tasks
