"""Download the files of one request's attachments. Attachments with equal URLs share one
download.
"""

import asyncio
from typing import Protocol

from server.media.attachments import Attachment
from server.media.blob import Blob
from server.media.sources import Link
from server.metrics import stage


class Fetch(Protocol):
    """The method of `server.media.fetch.Fetcher` that this module uses."""

    async def fetch(self, link: Link) -> Blob: ...


class Fetches:
    def __init__(self, fetcher: Fetch | None) -> None:
        self._fetcher = fetcher
        self._tasks: dict[Link, asyncio.Task[Blob]] = {}

    async def content(self, attachment: Attachment) -> Blob:
        """Return the attachment's file. Downloads it if its source is a URL."""
        source = attachment.source
        if not isinstance(source, Link):
            return source
        if source not in self._tasks:
            self._tasks[source] = asyncio.ensure_future(self._fetch(source, attachment.modality))
        return await self._tasks[source]

    def close(self) -> None:
        """Forget the downloaded files, which closes those that nothing else uses."""
        self._tasks.clear()

    async def _fetch(self, link: Link, modality: str) -> Blob:
        assert self._fetcher is not None
        with stage("fetch", modality):
            return await self._fetcher.fetch(link)
