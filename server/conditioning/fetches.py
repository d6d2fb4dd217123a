"""Download the files of one request's attachments. Attachments with equal URLs share one
download.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from server.media.attachments import Attachment
from server.media.blob import Blob
from server.media.sources import Link, check_size
from server.metrics import stage

MAX_KEPT = 64  # maximum number of downloaded files that one request keeps for other attachments


class Fetch(Protocol):
    """The method of `server.media.fetch.Fetcher` that this module uses."""

    async def fetch(self, link: Link) -> Blob: ...


class Fetches:
    def __init__(
        self, fetcher: Fetch | None, attachments: Iterable[Attachment] = (), *, uses: int = 1
    ) -> None:
        """`attachments`: the request's attachments. If at least `uses` of them have the same URL,
        its file is downloaded once, and kept until this object is deleted.
        """
        self._fetcher = fetcher
        limits: dict[str, list[int]] = {}
        for each in attachments:
            if isinstance(each.source, Link):
                limits.setdefault(each.source.url, []).append(each.source.max_bytes)
        shared = [(url, max(each)) for url, each in limits.items() if len(each) >= uses]
        # URL -> maximum bytes. A file may be larger than one of its attachments allows.
        self._shared = dict(shared[:MAX_KEPT])
        self._tasks: dict[str, asyncio.Task[Blob]] = {}

    async def content(self, attachment: Attachment) -> Blob:
        """Return the attachment's file. Downloads it if its source is a URL.

        Raises TooLarge: when the file is larger than this attachment may be.
        Raises the errors of `Fetcher.fetch`.
        """
        source = attachment.source
        if not isinstance(source, Link):
            return source
        if source.url not in self._shared:
            return await self._fetch(source, attachment.modality)
        if source.url not in self._tasks:
            link = Link(source.url, self._shared[source.url])
            self._tasks[source.url] = asyncio.ensure_future(self._fetch(link, attachment.modality))
        try:
            blob = await self._tasks[source.url]
        except BaseException:
            # Drop the task: its error references this frame, and would keep the other files open.
            self._tasks.pop(source.url, None)
            raise
        check_size(blob, source.max_bytes, attachment.param)
        return blob

    def close(self) -> None:
        """Forget the downloaded files, which closes those that nothing else uses."""
        self._tasks.clear()

    async def _fetch(self, link: Link, modality: str) -> Blob:
        assert self._fetcher is not None
        with stage("fetch", modality):
            return await self._fetcher.fetch(link)
