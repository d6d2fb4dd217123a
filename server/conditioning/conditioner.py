"""Conditioner: computes, from a request's attachments, the embedding that conditions the answer.

`condition` calls the stages in order; each stage has its own file. This module does not depend on
HTTP or on the LLM engine. The encoding service decodes and encodes files (encoding/embedder.py).

Shapes: M attachments, D embedding dimensions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cache_index.enhance import CacheParams
from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import ReadOptions
from server.conditioning.fetches import Fetch, Fetches
from server.conditioning.first_error import all_results
from server.conditioning.mix import mix, normalize
from server.conditioning.options import Explanation, ImageBindOptions, MixedPart
from server.conditioning.picture_mix import picture_mix
from server.conditioning.retrieve import Retrieved, Retriever
from server.errors import RequestError
from server.media.attachments import EMBEDDING, Attachment
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.media.encoders import check_encoder
from server.metrics import count_attachment, stage


class Embed(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded: ...


@dataclass(frozen=True, slots=True)
class Conditioned:
    embedding: Vector  # the embedding (D,) that conditions the answer
    explanation: Explanation
    picture: Vector | None = None  # the vector (D,) that conditions a picture, if requested


class Conditioner:
    def __init__(
        self,
        embedder: Embed,
        retriever: Retriever,
        *,
        encoders: Sequence[str],
        text_only: Vector,
        fetcher: Fetch | None = None,
        prenorm_length: float = 0,
    ) -> None:
        """`encoders`: the names of the model's encoders. `text_only` (D,): the embedding with which
        the model was trained on samples without attachments. `fetcher`: None if the server fetches
        no URLs; such a server rejects requests with URLs before this class gets them.
        `prenorm_length`: the length of a ready embedding's vector for a decoder of pictures, if the
        client states none.
        """
        self.text_only = text_only
        self._embedder = embedder
        self._retriever = retriever
        self._encoders = tuple(encoders)
        self._fetcher = fetcher
        self._prenorm_length = prenorm_length

    def fetches(self, attachments: Iterable[Attachment], *, uses: int = 1) -> Fetches:
        """An object that downloads the files of one request. See `Fetches`."""
        return Fetches(self._fetcher, attachments, uses=uses)

    async def condition(
        self,
        attachments: Sequence[Attachment],
        options: ImageBindOptions,
        fetches: Fetches | None = None,
        *,
        with_picture: bool = False,
    ) -> Conditioned:
        """Embed the attachments, mix the embeddings, and retrieve. `fetches`: the request's
        downloads, if another component also needs them.

        `with_picture`: whether to compute also the vector of a picture, which needs an attachment.
        Raises a RequestError that names the attachment or the parameter.
        """
        if not attachments:
            options = without_default_cache(options)
        params = self._retriever.params(options)  # Check the parameters before anything is decoded.
        if attachments:
            embedded = await self._embed_all(attachments, fetches or self.fetches(attachments))
            units = np.stack([each.unit for each in embedded])
            mixed = mix(units, [attachment.weight for attachment in attachments])
        else:
            embedded, mixed = [], self.text_only
        with stage("retrieve"):
            retrieved = await self._retriever.retrieve(mixed, params, explain=options.explain)
        picture = None
        if with_picture and embedded:
            weights = [attachment.weight for attachment in attachments]
            picture = (await self._picture(embedded, weights, params, options))[0]
        return Conditioned(retrieved.embedding, explain(attachments, embedded, retrieved), picture)

    async def condition_picture(
        self, attachments: Sequence[Attachment], options: ImageBindOptions
    ) -> Conditioned:
        """Compute the vector that conditions a picture, from at least one attachment.

        Raises as `condition` does.
        """
        params = self._retriever.params(options)
        embedded = await self._embed_all(attachments, self.fetches(attachments))
        weights = [attachment.weight for attachment in attachments]
        with stage("retrieve"):
            vector, retrieved = await self._picture(embedded, weights, params, options)
        return Conditioned(vector, explain(attachments, embedded, retrieved), vector)

    async def _picture(
        self,
        embedded: Sequence[Embedded],
        weights: Sequence[float],
        params: CacheParams | None,
        options: ImageBindOptions,
    ) -> tuple[Vector, Retrieved]:
        """Mix the attachments' vectors. The cache changes the direction of the mix (D,), and not
        its length.
        """
        mixed = picture_mix(embedded, weights)
        if params is None:
            return mixed, Retrieved(mixed, "off")
        retrieved = await self._retriever.retrieve(
            normalize(mixed), params, explain=options.explain
        )
        # A cache of the form "paper" returns vectors of other lengths than 1.
        return normalize(retrieved.embedding) * np.linalg.norm(mixed), retrieved

    async def embed_scaled(self, attachment: Attachment) -> Vector:
        """Return ImageBind's output (D,) for one attachment, without normalisation to unit length.

        Raises a RequestError that names the attachment.
        """
        return (await self._embed(attachment, Fetches(self._fetcher))).scaled

    async def embed_unit(self, attachment: Attachment) -> Vector:
        """Return the embedding (D,) of one attachment, with length 1. Raises the errors of
        `embed_scaled`.
        """
        return (await self._embed(attachment, Fetches(self._fetcher))).unit

    async def fetch(self, attachment: Attachment, fetches: Fetches | None = None) -> Blob:
        """Return the bytes of an attachment. Downloads the file of a link. `fetches`: the request's
        downloads.
        """
        check_encoder(attachment.modality, self._encoders)
        return await (fetches or Fetches(self._fetcher)).content(attachment)

    async def _embed_all(
        self, attachments: Sequence[Attachment], fetches: Fetches
    ) -> list[Embedded]:
        """Embed all attachments. The first failure cancels the other attachments."""
        try:
            return await all_results(self._embed(each, fetches) for each in attachments)
        finally:
            # Delete the variable: the traceback of an error references this frame, and would keep
            # the files open.
            del fetches

    async def _embed(self, attachment: Attachment, fetches: Fetches) -> Embedded:
        """Embed one attachment. Errors name the attachment."""
        modality = attachment.modality
        try:
            # Not checked for videos: a video file may contain only sound. The encoding service
            # detects this and checks that the model has the encoder.
            if modality not in (EMBEDDING, "video"):
                check_encoder(modality, self._encoders)
            content = await fetches.content(attachment)
            if modality == EMBEDDING:
                numbers = np.frombuffer(content.head(content.size), "<f4")
                unit = normalize(numbers.astype(np.float32))
                length = attachment.norm or self._prenorm_length
                prenorm = unit * np.float32(length)
                return Embedded(modality, np.append(unit, np.float32(1)), prenorm=prenorm)
            with stage("embed", modality) as label:
                embedded = await self._embedder.embed(modality, content, attachment.options)
                label.modality = modality = embedded.modality
            return embedded
        # Raise a copy, because other requests may share the error object.
        except RequestError as error:
            param = error.param or attachment.param
            raise type(error)(error.message, param=param, code=error.code) from None
        finally:  # also count attachments that fail
            count_attachment(modality)


def without_default_cache(options: ImageBindOptions) -> ImageBindOptions:
    """Disable the retrieval cache unless the request enables it.

    Used for /v1/embeddings, and for requests without attachments: training used the text-only
    embedding without the cache.
    """
    return options.model_copy(update={"cache": options.cache or False})


def explain(
    attachments: Sequence[Attachment], embedded: Sequence[Embedded], retrieved: Retrieved
) -> Explanation:
    total = sum(attachment.weight for attachment in attachments)
    return Explanation(
        text_only=not attachments,
        mix=[
            MixedPart(
                param=attachment.param,
                modality=result.modality,
                weight=attachment.weight,
                share=attachment.weight / total,
                notes=result.notes,
                cached=result.cached,
            )
            for attachment, result in zip(attachments, embedded, strict=True)
        ],
        cache=retrieved.state,
        neighbors=list(retrieved.neighbors),
    )
