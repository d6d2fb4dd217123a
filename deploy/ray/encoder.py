"""Encoder: a replica that decodes and encodes files. As many as the load needs, on any machine.

The same parts as the encoding service of a single server, behind Ray's calls instead of a socket.
"""

from typing import Any

import numpy as np
from ray import serve

from server.encoding.components import EncodingParts
from server.encoding.embedder import Embedder, Report
from server.encoding.messages import Answer, Hello, Packet
from server.errors import InternalError, RequestError
from server.media.blob import InMemory
from server.settings import Settings


@serve.deployment
class Encoder:
    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]  # Ray awaits it
        self._parts = await EncodingParts.open(Settings.load(**settings))
        self._embedder = Embedder(self._parts.decoder, self._parts.encoder, self._parts.contents)

    async def hello(self) -> bytes:
        """Which encoders there are, and the embedding of an image of zeros."""
        return Packet(Hello(list(self._parts.modalities)), self._parts.zero_image).encode()

    async def embed(self, modality: str, data: bytes) -> bytes:
        """An answer, whatever happens: errors too are packets, with what they tell the client."""
        report, embedding, error = Report(), np.empty(0, np.float32), None
        try:
            embedding = await self._embedder.embed(modality, InMemory(data), report)
        except RequestError as failure:
            error = Answer.describe(failure)
        except Exception:
            error = Answer.describe(InternalError("the server failed to embed the file"))
        answer = Answer(report.known, report.seconds, report.failed, error)
        return Packet(answer, embedding).encode()

    def check_health(self) -> None:
        """Ray replaces a replica that raises here."""
        if (missing := self._parts.missing()) is not None:
            raise RuntimeError(missing)
