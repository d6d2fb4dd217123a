"""The expert `objects` of a server with a detector: the labels of a list that the detector finds.

Without a detector, an image classifier is this expert (model_ext/experts/objects.py).
Shapes: Q labels, D embedding.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from model_ext.conditioning import Vector
from model_ext.experts.texts import labelled
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, ReadOptions
from model_ext.side import Array, Json, SideData
from server.conditioning.first_error import all_results
from server.context import RequestContext, entered
from server.media.blob import Blob, MemoryBlob
from server.media.embedded import Embedded
from server.settings import DETECTOR

MAX_LABELS = 20  # maximum number of labels in the text
CONCURRENT = 16  # maximum number of labels that are embedded at the same time


class EmbedText(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded: ...


async def text_vector(encoders: EmbedText, text: str) -> Vector:
    """Embed a text: a vector (D,) of length 1. Raises a RequestError."""
    embedded = await encoders.embed("text", MemoryBlob(text.encode()), DEFAULT_OPTIONS)
    return embedded.unit


class DetectedLabels:
    """Finds labels in pictures with the detector."""

    side = DETECTOR

    def __init__(
        self, labels: Sequence[str], threshold: float | None, encoders: EmbedText | None
    ) -> None:
        """`threshold`: the minimum score of a label. None: the detector's default. `encoders`: they
        embed the labels; None if the detector takes texts.
        """
        self._labels, self._threshold, self._encoders = tuple(labels), threshold, encoders
        self._embedding: asyncio.Task[Array] | None = None

    async def task(self, view: Array) -> SideData:
        # A file without pictures has an array (0,).
        arrays = {"pictures": view if view.ndim == 4 else np.zeros((0, 1, 1, 3), np.uint8)}
        if self._encoders is not None:
            arrays["vectors"] = await self._vectors(self._encoders)
        queries = [{"text": label, "modality": "text"} for label in self._labels]
        document = {"task": "detect", "threshold": self._threshold, "queries": queries}
        return SideData(document, arrays)

    def text(self, result: Json) -> str:
        """The labels with boxes in any frame, from the highest score to the lowest."""
        scores: dict[int, float] = {}
        for each in (each for frame in result["frames"] for each in frame):
            scores[each["query"]] = max(each["score"], scores.get(each["query"], 0.0))
        best = sorted(scores, key=lambda query: -scores[query])[:MAX_LABELS]
        return labelled({"labels": [self._labels[query] for query in best]})

    async def _vectors(self, encoders: EmbedText) -> Array:
        """The labels' embeddings (Q, D), which are computed at the first request. Raises a
        RequestError: when this failed; the next request tries again.
        """
        task = self._embedding
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._embedding = asyncio.ensure_future(embed_all(encoders, self._labels))
        # If one request has no more time, the others still wait for the embeddings.
        return await asyncio.shield(task)


async def embed_all(encoders: EmbedText, texts: Sequence[str]) -> Array:
    """Embed texts: (Q, D). The work counts as the server's own, not as a client's."""
    vectors: list[Vector] = []
    with entered(RequestContext(b"")):
        for start in range(0, len(texts), CONCURRENT):
            part = texts[start : start + CONCURRENT]
            vectors += await all_results(text_vector(encoders, text) for text in part)
    return np.stack(vectors)
