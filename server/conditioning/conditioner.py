"""Conditioner: computes, from a request's attachments, the embedding that conditions the answer.

`condition` calls the stages in order; each stage has its own file. This module does not depend on
HTTP or on the LLM engine. The encoding service decodes and encodes files (encoding/embedder.py).

Shapes: M attachments, D embedding dimensions.
"""

import asyncio
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model_ext.conditioning import Vector
from model_ext.imagebind.config import ENCODER_OF
from server.conditioning.mix import mix, normalize
from server.conditioning.options import Explanation, ImageBindOptions, MixedPart
from server.conditioning.retrieve import Retrieved, Retriever
from server.errors import BadRequest, RequestError
from server.media.attachments import EMBEDDING, Attachment
from server.media.blob import Blob
from server.media.sources import Link
from server.metrics import count_attachment, stage


class Embed(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def embed(self, modality: str, content: Blob) -> Vector: ...
    async def embed_scaled(self, modality: str, content: Blob) -> Vector: ...


class Fetch(Protocol):
    """The method of `server.media.fetch.Fetcher` that this module uses."""

    async def fetch(self, link: Link) -> Blob: ...


@dataclass(frozen=True, slots=True)
class Conditioned:
    embedding: Vector  # the embedding (D,) that conditions the answer
    explanation: Explanation


class Conditioner:
    def __init__(
        self,
        embedder: Embed,
        retriever: Retriever,
        *,
        encoders: Sequence[str],
        text_only: Vector,
        fetcher: Fetch | None = None,
    ) -> None:
        """`encoders`: the names of the model's encoders. `text_only` (D,): the embedding with which
        the model was trained on samples without attachments. `fetcher`: None if the server fetches
        no URLs. The code that reads attachments then rejects requests with URLs.
        """
        self.text_only = text_only
        self._embedder = embedder
        self._retriever = retriever
        self._encoders = tuple(encoders)
        self._fetcher = fetcher

    async def condition(
        self, attachments: Sequence[Attachment], options: ImageBindOptions
    ) -> Conditioned:
        """Embed the attachments, mix the embeddings, and retrieve.

        Raises a RequestError that names the attachment or the parameter.
        """
        if not attachments:
            options = without_default_cache(options)
        params = self._retriever.params(options)  # Check the parameters before anything is decoded.
        if attachments:
            units = await self._embed_all(attachments)
            mixed = mix(units, [attachment.weight for attachment in attachments])
        else:
            mixed = self.text_only
        with stage("retrieve"):
            retrieved = await self._retriever.retrieve(mixed, params, explain=options.explain)
        return Conditioned(retrieved.embedding, explain(attachments, retrieved))

    async def embed_scaled(self, attachment: Attachment) -> Vector:
        """Embed one attachment: ImageBind's own output (D,), which has not unit length.

        Raises a RequestError that names the attachment.
        """
        return await self._embed(attachment, scaled=True)

    async def embed_unit(self, attachment: Attachment) -> Vector:
        """Embed one attachment: a unit embedding (D,). Raises as `embed_scaled`."""
        return await self._embed(attachment)

    async def fetch(self, attachment: Attachment) -> Blob:
        """Return the bytes of an attachment, which are downloaded if it is a link."""
        self._check_encoder(attachment.modality)
        return await self._fetched(attachment)

    async def _embed_all(self, attachments: Sequence[Attachment]) -> Vector:
        """Embed all attachments: unit embeddings (M, D). The first failure cancels the other
        attachments.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed(each)) for each in attachments]
        except ExceptionGroup as failures:
            # Delete these variables: they reference the error, whose traceback would keep the
            # attachments' files open.
            del group, tasks
            raise failures.exceptions[0] from None
        except asyncio.CancelledError as cancelled:
            # The traceback's frames reference the attachments' files and the TaskGroup's tasks, and
            # would keep the files open.
            traceback.clear_frames(cancelled.__traceback__)
            del group, tasks
            raise
        return np.stack([task.result() for task in tasks])

    async def _embed(self, attachment: Attachment, *, scaled: bool = False) -> Vector:
        """Embed one attachment: a unit embedding (D,), or with its scale. Errors name the
        attachment.
        """
        count_attachment(attachment.modality)
        try:
            if attachment.modality != EMBEDDING:
                self._check_encoder(attachment.modality)
            content = await self._fetched(attachment)
            if attachment.modality == EMBEDDING:
                numbers = np.frombuffer(content.head(content.size), "<f4")
                return normalize(numbers.astype(np.float32))
            with stage("embed", attachment.modality):
                embed = self._embedder.embed_scaled if scaled else self._embedder.embed
                return await embed(attachment.modality, content)
        # Raise a copy, because other requests may share the error object.
        except RequestError as error:
            param = error.param or attachment.param
            raise type(error)(error.message, param=param, code=error.code) from None

    async def _fetched(self, attachment: Attachment) -> Blob:
        if not isinstance(attachment.source, Link):
            return attachment.source
        assert self._fetcher is not None
        with stage("fetch", attachment.modality):
            return await self._fetcher.fetch(attachment.source)

    def _check_encoder(self, modality: str) -> None:
        if ENCODER_OF[modality] not in self._encoders:
            modalities = [name for name, encoder in ENCODER_OF.items() if encoder in self._encoders]
            raise BadRequest(
                f"this model has no encoder for the modality {modality}; "
                f"it accepts {', '.join(modalities)}"
            )


def without_default_cache(options: ImageBindOptions) -> ImageBindOptions:
    """Disable the retrieval cache unless the request enables it.

    Used for /v1/embeddings, and for requests without attachments: training used the text-only
    embedding without the cache.
    """
    return options.model_copy(update={"cache": options.cache or False})


def explain(attachments: Sequence[Attachment], retrieved: Retrieved) -> Explanation:
    total = sum(attachment.weight for attachment in attachments)
    return Explanation(
        text_only=not attachments,
        mix=[
            MixedPart(
                param=attachment.param,
                modality=attachment.modality,
                weight=attachment.weight,
                share=attachment.weight / total,
            )
            for attachment in attachments
        ],
        cache=retrieved.state,
        neighbors=list(retrieved.neighbors),
    )
