"""A link of a request is downloaded once, for the encoders, the experts and the grounding."""

import io
import weakref

import pytest

from server.media.blob import MemoryBlob
from server.media.sources import Link
from server.side.detected_labels import DetectedLabels
from server.side.experts import Experts
from tests.server.api.grounding.colors import picture
from tests.server.api.grounding.grounded import RED, STREAM, TEXT, answer, chat, enable, events
from tests.server.application import Served

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")


class Downloads:
    """Returns the same picture for every link, and records the links."""

    def __init__(self) -> None:
        file = io.BytesIO()
        picture(("red", RED)).save(file, "PNG")
        self.data, self.urls = file.getvalue(), list[str]()
        self.blobs: list[weakref.ref[MemoryBlob]] = []

    async def fetch(self, link: Link) -> MemoryBlob:
        self.urls.append(link.url)
        blob = Held(self.data)
        self.blobs.append(weakref.ref(blob))
        return blob


class Held(MemoryBlob):
    """A blob to which weak references are possible."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("experts", [None, ["objects"]])
async def test_a_link_is_downloaded_once(served: Served, experts: list[str] | None) -> None:
    downloads = Downloads()
    components = served.components
    components.conditioner._fetcher = downloads
    reader = DetectedLabels(("red car",), None, None)
    components.experts = Experts(components.sides, components.encoders, objects=reader)
    enable(served, served.app.state.settings.detector, allow_media_urls=True)
    link = {"type": "image_url", "image_url": {"url": "https://example.org/red.png"}}
    for stream in (False, True):
        downloads.urls.clear()
        downloads.blobs.clear()
        served.handler.answer = events(*STREAM) if stream else answer(TEXT)
        response = await chat(served, link, stream=stream, imagebind={"experts": experts})
        assert '"found":true' in response.text.replace(" ", ""), response.text
        assert downloads.urls == ["https://example.org/red.png"]
        assert [blob() for blob in downloads.blobs] == [None]  # the file is closed
