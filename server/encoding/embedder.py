"""Embedder: a file's bytes to its unit embedding: decode, encode, keep by the hash of the content.

Equal content is decoded and encoded once, whoever asks. Knows the order of the two stages; does
not know requests, weights or who asks.

Shapes: D embedding dimensions.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from model_ext.conditioning import Vector
from model_ext.imagebind.config import ENCODER_OF
from server.encoding.cache import ResultCache
from server.media.blob import Blob


class Decode(Protocol):
    """What we need of `server.encoding.decode.pool.DecodePool`."""

    async def decode(self, modality: str, content: Blob) -> Tensor: ...


class Encode(Protocol):
    """What we need of `server.encoding.batcher.Encoder`."""

    async def encode(self, encoder: str, tensor: Tensor) -> Vector: ...


@dataclass(slots=True)
class Report:
    """What was done for one caller; whoever shares another's work has nothing to report."""

    known: bool = True
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, with its queue
    failed: str | None = None  # the stage

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except Exception:
            self.failed = name
            raise
        finally:
            self.seconds[name] = time.perf_counter() - started


class Embedder:
    def __init__(self, decoder: Decode, encoder: Encode, contents: ResultCache) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._contents = contents

    async def embed(self, modality: str, content: Blob, report: Report) -> Vector:
        """(D,). Who is cancelled stops the work, unless others wait for it."""

        async def decode_and_encode() -> Vector:
            report.known = False
            with report.stage("decode"):
                tensor = await self._decoder.decode(modality, content)
            with report.stage("encode"):
                return await self._encoder.encode(ENCODER_OF[modality], tensor)

        key = (modality, await content.digest())
        return await self._contents.get(key, decode_and_encode)
