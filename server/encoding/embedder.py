"""Embedder: turns a file's bytes into a unit embedding. It decodes, encodes and caches the result.

The result cache finds an embedding by the hash of the file's content. Files with equal content are
decoded and encoded once. Files of different API keys share a result, or the computation of a
result, only if the job says so. This module does not depend on requests or weights.

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
from server.encoding.messages import Job
from server.media.blob import Blob


class Decode(Protocol):
    """The method of `server.encoding.decode.pool.DecodePool` that the embedder uses."""

    async def decode(self, modality: str, blob: Blob, client: str, /) -> Tensor: ...


class Encode(Protocol):
    """The method of `server.encoding.batcher.Batcher` that the embedder uses."""

    async def encode(self, encoder: str, tensor: Tensor, client: str, /) -> Vector: ...


@dataclass(slots=True)
class Report:
    """The stages (decode, encode) that ran for one caller.

    Empty if the result was cached or another caller's computation returned it.
    """

    cached: bool = True
    # Seconds by stage, including the wait in the stage's queue.
    seconds: dict[str, float] = field(default_factory=dict)
    failed: str | None = None  # name of the stage that raised an exception

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

    async def embed(self, job: Job, blob: Blob, report: Report) -> Vector:
        """Embed a file. Returns the unit embedding and its length before the normalisation
        (D + 1,).

        The computation is cancelled when the last caller that waits for it is cancelled.
        """

        async def decode_and_encode() -> Vector:
            report.cached = False
            with report.stage("decode"):
                tensor = await self._decoder.decode(job.modality, blob, job.client)
            with report.stage("encode"):
                return await self._encoder.encode(ENCODER_OF[job.modality], tensor, job.client)

        key = (job.results, job.modality, await blob.digest())
        return await self._results.get(key, decode_and_encode)
