"""Embedder: turns a file's bytes into an embedding of length 1.

It decodes and encodes the file, and stores the embedding in the result cache under the hash of the
file's content, so that files with equal content are decoded and encoded once. Files of different
API keys share results only if the job allows it. This module does not depend on requests or
weights.

Shapes: D embedding dimensions.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from model_ext.conditioning import Vector
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from server.encoding.cache import ResultCache
from server.encoding.messages import Job
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.media.encoders import check_encoder


class Decode(Protocol):
    """The method of `server.encoding.decode.pool.DecodePool` that the embedder uses."""

    async def decode(
        self, modality: str, blob: Blob, options: ReadOptions, client: str, /
    ) -> Sample: ...


class Encode(Protocol):
    """The part of `server.encoding.batcher.Batcher` that the embedder uses."""

    async def encode(self, encoder: str, tensor: Tensor, client: str, /) -> Vector: ...


@dataclass(slots=True)
class Report:
    """The stages (decode, encode) that ran for one caller.

    Empty if the result came from the cache or from another caller's computation.
    """

    cached: bool = True
    # stage -> seconds, including the wait in the stage's queue
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
    def __init__(
        self,
        decoder: Decode,
        encoder: Encode,
        encoders: Collection[str],
        results: ResultCache[Embedded],
    ) -> None:
        """`encoders`: the names of the model's encoders."""
        self._decoder = decoder
        self._encoder = encoder
        self._encoders = encoders
        self._results = results

    async def embed(self, job: Job, blob: Blob, report: Report) -> Embedded:
        """Embed a file. The computation is cancelled when the last caller that waits for it is
        cancelled.
        """

        async def decode_and_encode() -> Embedded:
            report.cached = False
            with report.stage("decode"):
                sample = await self._decoder.decode(job.modality, blob, options, job.client)
            # The decoder changes the modality of a video without pictures to audio.
            check_encoder(sample.modality, self._encoders)
            encoder = ENCODER_OF[sample.modality]
            with report.stage("encode"):
                numbers = await self._encoder.encode(encoder, sample.tensor, job.client)
            return Embedded(sample.modality, numbers, sample.notes)

        options = ReadOptions(**job.options)
        key = (job.results, job.modality, options, await blob.digest())
        return await self._results.get(key, decode_and_encode)
