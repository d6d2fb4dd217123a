"""Stages: the parts that a request passes before the engine, as one API process has them.

Built whole, then used by the routes; closed when the server ends. One of it per API process.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from model_ext.conditioning import Vector, pack
from model_ext.config import BindServeConfig, Provenance
from server.api.multipart import FormLimits, Uploads
from server.conditioning.conditioner import Conditioner
from server.conditioning.mix import mix
from server.conditioning.open_cache import open_cache
from server.conditioning.retrieve import Retriever
from server.encoding.client import EncodingClient
from server.encoding.messages import SOCKET, Hello
from server.media.attachments import AttachmentLimits
from server.media.blob import Content
from server.media.fetch import Fetcher, FetchPolicy
from server.media.files import FileLimits, FileStore
from server.settings import Settings


class Encoders(Protocol):
    """What we need of `server.encoding.client.EncodingClient`, or of encoders elsewhere."""

    async def hello(self) -> tuple[Hello, Vector]: ...
    async def embed(self, modality: str, content: Content) -> Vector: ...
    def missing(self) -> str | None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stages:
    encoders: Encoders
    retriever: Retriever
    conditioner: Conditioner
    files: FileStore
    uploads: Uploads
    attachment_limits: AttachmentLimits
    description: dict[str, Any]  # what /v1/models says

    @classmethod
    async def open(
        cls,
        settings: Settings,
        config: BindServeConfig,
        scratch: Path,
        encoders: Encoders | None = None,
    ) -> Self:
        """Open the cache and wait for the encoders: those given, or the encoding service.
        `scratch`: the folder of its socket and of clients' files."""
        dim = config.imagebind.embedding_dim
        retriever = Retriever(open_cache(settings, config), policy=settings.cache_policy)
        await retriever.start()
        encoders = encoders or EncodingClient(scratch / SOCKET)
        hello, zero_image = await encoders.hello()
        files = FileStore(scratch, file_limits(settings))
        policy = FetchPolicy(timeout_s=settings.fetch_timeout_s, waiting=settings.fetch_waiting)
        conditioner = Conditioner(
            encoders,
            retriever,
            encoders=hello.encoders,
            text_only=text_only(zero_image),
            fetcher=Fetcher(files.incoming, policy) if settings.allow_media_urls else None,
        )
        return cls(
            encoders,
            retriever,
            conditioner,
            files,
            Uploads(files.incoming, form_limits(settings), settings.max_uploads),
            AttachmentLimits(settings.max_attachments, settings.limits, dim),
            describe(config, hello.encoders, retriever),
        )

    @property
    def text_only(self) -> bytes:
        return pack(self.conditioner.text_only)

    def missing(self) -> str | None:
        """What keeps the server from answering requests with attachments, if anything."""
        if (missing := self.encoders.missing()) is not None:
            return missing
        if self.retriever.refuses:
            return "the cache cannot be asked"
        return None

    async def close(self) -> None:
        await self.encoders.close()
        await self.retriever.close()


def text_only(zero_image: Vector) -> Vector:
    """What a request without attachments is conditioned on: an image of zeros, after the
    normalisation of pixels, mixed with weight 1. The weights were trained so, without the cache.
    """
    return mix(zero_image[None], [1.0])


def file_limits(settings: Settings) -> FileLimits:
    return FileLimits(
        owner_files=settings.owner_files,
        owner_bytes=settings.owner_bytes,
        total_bytes=settings.stored_bytes,
        max_age_s=settings.file_age_s,
    )


def form_limits(settings: Settings) -> FormLimits:
    return FormLimits(
        parts=settings.max_attachments + 8,  # the fields beside the files
        field_bytes=settings.max_body_bytes,
        file_bytes=settings.max_file_bytes,
    )


def describe(
    config: BindServeConfig, encoders: Sequence[str], retriever: Retriever
) -> dict[str, Any]:
    provenance: Provenance = config.provenance
    return {
        "embedding_dim": config.imagebind.embedding_dim,
        "encoders": list(encoders),
        "text_only": config.imagebind.text_only,
        "cache": retriever.available,
        "provenance": asdict(provenance),
    }
