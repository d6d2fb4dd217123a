"""Encoder: a replica that decodes and encodes files. As many as the load needs, on any machine.

The same parts as the encoding service of a single server, behind Ray's calls instead of a socket.
"""

from typing import Any

from ray import serve

from server.encoding.components import EncodingComponents
from server.encoding.embedder import Embedder
from server.encoding.job import answer
from server.encoding.messages import Hello, Packet
from server.media.blob import MemoryBlob
from server.settings import Settings


@serve.deployment
class EncoderReplica:
    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        self._parts = await EncodingComponents.open(Settings.load(**settings))
        self._embedder = Embedder(self._parts.decoder, self._parts.encoder, self._parts.contents)

    async def hello(self) -> bytes:
        """Which encoders there are, and the embedding of an image of zeros."""
        return Packet(Hello(list(self._parts.modalities)), self._parts.zero_image).encode()

    async def embed(self, modality: str, data: bytes) -> bytes:
        """Embed a file. The packet holds the embedding, or the error."""
        return (await answer(self._embedder, modality, MemoryBlob(data))).encode()

    def check_health(self) -> None:
        """Ray replaces a replica that raises here."""
        if (missing := self._parts.missing()) is not None:
            raise RuntimeError(missing)
