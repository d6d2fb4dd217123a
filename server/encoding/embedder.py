"""Embedder: a file's bytes to its unit embedding: decode, encode, cache by a hash of the content.

Files with equal content are decoded and encoded once, also for different clients. Handles the order
of the two stages; independent of requests, weights and clients.

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
    """The part of `server.encoding.decode.pool.DecodePool` that the embedder uses."""

    async def decode(self, modality: str, blob: Blob, /) -> Tensor: ...


class Encode(Protocol):
    """The part of `server.encoding.batcher.Batcher` that the embedder uses."""

    async def encode(self, encoder: str, tensor: Tensor, /) -> Vector: ...


@dataclass(slots=True)
class Report:
    """The stages that ran for one caller: none if the result was cached or another caller's."""

    cached: bool = True
    seconds: dict[str, float] = field(default_factory=dict)  # by stage, its queue included
    failed: str | None = None  # the stage that raised

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
    def __init__(self, decoder: Decode, encoder: Encode, results: ResultCache) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._results = results

    async def embed(self, modality: str, blob: Blob, report: Report) -> Vector:
        """Unit embedding (D,). Cancels the work when the last waiting caller is cancelled."""

        async def decode_and_encode() -> Vector:
            report.cached = False
            with report.stage("decode"):
                tensor = await self._decoder.decode(modality, blob)
            with report.stage("encode"):
                return await self._encoder.encode(ENCODER_OF[modality], tensor)

        key = (modality, await blob.digest())
        return await self._results.get(key, decode_and_encode)
