"""Components: the objects that one API process needs to compute the embeddings of requests.

They are opened before the application starts and closed after it ends. They do not depend on the
LLM engine.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from model_ext.conditioning import Vector, pack
from model_ext.config import BindServeConfig, EncodersConfig, read_sections
from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.side import Array
from server.api.multipart import FormLimits, Uploads
from server.api.offer import describe
from server.conditioning.conditioner import Conditioner
from server.conditioning.mix import mix
from server.conditioning.open_cache import dtype_difference, open_cache
from server.conditioning.retrieve import Retriever
from server.encoding.messages import Hello
from server.encoding.view import View
from server.encoding.windows import Cutter, video_frames
from server.media.attachments import AttachmentLimits
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.media.fetch import Fetcher, FetchPolicy
from server.media.files import FileLimits, FileStore, sweep_regularly
from server.settings import Settings
from server.side.catalog import enabled, socket_path
from server.side.client import SideClient
from server.side.experts import Experts

logger = logging.getLogger(__name__)


class Encoders(Protocol):
    """The encoders, which run in another process.

    Implemented by `server.encoding.client.EncodingClient`, and by the client of Ray's replicas.
    """

    async def hello(self) -> tuple[Hello, Vector]: ...
    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded: ...
    async def view(self, view: str, modality: str, content: Blob) -> View: ...
    async def decode(self, view: str, modality: str, content: Blob) -> Array: ...
    def missing(self) -> str | None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Components:
    encoders: Encoders
    retriever: Retriever
    conditioner: Conditioner
    files: FileStore
    uploads: Uploads
    attachment_limits: AttachmentLimits
    description: dict[str, Any]  # the model's description in /v1/models
    cutter: Cutter
    language_model: bool  # Whether the model folder has a language model.
    sides: Mapping[str, SideClient]  # The enabled side models by name.
    experts: Experts

    @classmethod
    async def open(
        cls,
        settings: Settings,
        config: EncodersConfig,
        scratch: Path,
        encoders: Encoders,
    ) -> Self:
        """Open the retrieval cache, and wait until the encoders answer.

        `scratch`: the folder for clients' files, unless the operator sets another. Raises
        CacheError, Unavailable, OSError.
        """
        dim = config.imagebind.embedding_dim
        cache = open_cache(settings, config)
        retriever = Retriever(cache, policy=settings.cache_policy)
        await retriever.start()
        hello, zero_image = await encoders.hello()
        if cache and (difference := dtype_difference(cache.manifests, hello.dtype)):
            logger.warning(difference)
        files = FileStore(stored_folder(settings, scratch), file_limits(settings))
        policy = FetchPolicy(timeout_s=settings.fetch_timeout_s, waiting=settings.fetch_waiting)
        conditioner = Conditioner(
            encoders,
            retriever,
            encoders=hello.encoders,
            text_only=text_only(zero_image),
            fetcher=Fetcher(files.incoming, policy) if settings.allow_media_urls else None,
            prenorm_length=hello.prenorm_length,
        )
        return cls(
            encoders,
            retriever,
            conditioner,
            files,
            Uploads(files.incoming, form_limits(settings), settings.max_uploads),
            AttachmentLimits(settings.max_attachments, settings.limits, dim, settings.read_options),
            describe(settings, config, hello.encoders, retriever),
            Cutter(settings, video_frames(settings.model)),
            isinstance(config, BindServeConfig),
            sides := open_sides(settings, scratch),
            Experts.of(settings, sides, encoders),
        )

    @property
    def text_only(self) -> bytes:
        return pack(self.conditioner.text_only)

    def missing(self) -> str | None:
        """The reason why the server cannot answer requests with attachments, or None if it can."""
        if (missing := self.encoders.missing()) is not None:
            return missing
        if self.retriever.refuses:
            return "the cache does not answer"
        return None

    async def close(self) -> None:
        await self.encoders.close()
        await self.retriever.close()
        for side in self.sides.values():
            await side.close()


def open_sides(settings: Settings, scratch: Path) -> dict[str, SideClient]:
    """Open the clients of the enabled side models, whose processes may still be starting."""
    return {
        side.name: SideClient(
            side.name,
            socket_path(scratch, side.name),
            cache_bytes=settings.side_cache_bytes,
            share_results=settings.share_results,
        )
        for side in enabled(settings)
    }


@asynccontextmanager
async def open_components(
    settings: Settings, encoders: Encoders, scratch: Path
) -> AsyncIterator[Components]:
    """Open the components. Until they are closed, a task deletes expired files."""
    try:
        config = read_sections(settings.model)
        components = await Components.open(settings, config, scratch, encoders)
    except BaseException:
        await encoders.close()
        raise
    sweeper = asyncio.ensure_future(sweep_regularly(components.files))
    try:
        yield components
    finally:
        sweeper.cancel()
        await components.close()


def text_only(zero_image: Vector) -> Vector:
    """The embedding (D,) that conditions requests without attachments.

    `zero_image` is the embedding of an image whose pixels are zero after normalisation. Training
    uses the same embedding, without the retrieval cache.
    """
    return mix(zero_image[None], [1.0])


def stored_folder(settings: Settings, scratch: Path) -> Path:
    """The folder of clients' files and batches: the operator's, which is created if it is missing,
    or the server's private folder. Raises OSError.
    """
    if settings.state_folder is None:
        return scratch
    settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.state_folder


def file_limits(settings: Settings) -> FileLimits:
    return FileLimits(
        owner_files=settings.owner_files,
        owner_bytes=settings.owner_bytes,
        total_bytes=settings.stored_bytes,
        max_age_s=settings.file_age_s,
    )


def form_limits(settings: Settings) -> FormLimits:
    return FormLimits(
        # In addition to the attachments, a form may have 8 fields that are not files.
        parts=settings.max_attachments + 8,
        field_bytes=settings.max_body_bytes,
        file_bytes=max(settings.max_file_bytes, settings.max_window_file_bytes),
    )
