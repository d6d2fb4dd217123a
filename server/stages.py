"""Stages: the parts that a request passes before the engine, opened from the model's folder.

Built whole, then used by the routes; closed when the server ends. One of it per API process.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from model_ext.conditioning import pack
from model_ext.config import BindServeConfig, ConfigError, Provenance
from model_ext.imagebind.model import ImageBind
from server.attachments import AttachmentLimits
from server.cache_source import open_cache
from server.conditioner import Conditioner
from server.content_cache import ContentCache
from server.decode import DecodePool, DecodeSettings
from server.encode import Encoder
from server.fetch import Fetcher, FetchPolicy
from server.files import FileLimits, FileStore
from server.form import FormLimits
from server.mix import Array, mix
from server.retrieve import Retriever
from server.settings import Settings
from server.uploads import Uploads

logger = logging.getLogger(__name__)

ENCODERS = "encoders"  # the folder inside a model's folder


@dataclass(frozen=True, slots=True)
class Stages:
    decoder: DecodePool
    encoder: Encoder
    retriever: Retriever
    conditioner: Conditioner
    files: FileStore
    uploads: Uploads
    attachment_limits: AttachmentLimits
    description: dict[str, Any]  # what /v1/models says

    @classmethod
    async def open(cls, settings: Settings, config: BindServeConfig, scratch: Path) -> Self:
        """Read encoders and cache, start the decoding processes. `scratch`: for clients' files."""
        folder, dim = settings.model / ENCODERS, config.imagebind.embedding_dim
        retriever = Retriever(open_cache(settings, config), policy=settings.cache_policy)
        await retriever.start()
        device = choose_device(settings.encode_device)
        model = ImageBind.from_folder(folder, device)
        encoder = Encoder(
            model,
            device=device,
            max_batch=settings.encode_batch,
            max_waiting=settings.encode_waiting,
            threads=settings.encode_threads,
        )
        decoder = DecodePool(decode_settings(settings), (folder / "config.json").read_bytes())
        await decoder.start()
        files = FileStore(scratch, file_limits(settings))
        policy = FetchPolicy(timeout_s=settings.fetch_timeout_s, waiting=settings.fetch_waiting)
        conditioner = Conditioner(
            decoder,
            encoder,
            retriever,
            ContentCache(settings.embedding_cache_bytes),
            encoders=model.modalities,
            text_only=await zero_image(encoder, model),
            fetcher=Fetcher(files.incoming, policy) if settings.allow_media_urls else None,
        )
        return cls(
            decoder,
            encoder,
            retriever,
            conditioner,
            files,
            Uploads(files.incoming, form_limits(settings), settings.max_uploads),
            AttachmentLimits(settings.max_attachments, settings.limits, dim),
            describe(config, model, retriever),
        )

    @property
    def text_only(self) -> bytes:
        return pack(self.conditioner.text_only)

    def missing(self) -> str | None:
        """What keeps the server from answering requests with attachments, if anything."""
        if not self.encoder.alive:
            return "the encoders stopped"
        if not self.decoder.alive:
            return "no decoding process runs"
        if self.retriever.refuses:
            return "the cache cannot be asked"
        return None

    async def close(self) -> None:
        await self.decoder.close()
        self.encoder.close()
        await self.retriever.close()


async def zero_image(encoder: Encoder, model: ImageBind) -> Array:
    """What a request without attachments is conditioned on: an image of zeros, after the
    normalisation of pixels, mixed with weight 1. The weights were trained so, without the cache.
    """
    if model.config.vision is None:
        raise ConfigError("text_only is zero_image, but the model has no vision encoder")
    size = model.config.vision.image_size
    unit = await encoder.encode("vision", torch.zeros(3, size, size))
    return mix(unit[None], [1.0])


def choose_device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def decode_settings(settings: Settings) -> DecodeSettings:
    limits = settings.limits
    return DecodeSettings(
        workers=settings.decode_workers,
        waiting=settings.decode_waiting,
        timeout_s=settings.decode_timeout_s,
        memory_bytes=settings.decode_memory_bytes,
        max_bytes=settings.max_file_bytes,
        limits=asdict(limits),
    )


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


def describe(config: BindServeConfig, model: ImageBind, retriever: Retriever) -> dict[str, Any]:
    provenance: Provenance = config.provenance
    return {
        "embedding_dim": config.imagebind.embedding_dim,
        "encoders": list(model.modalities),
        "text_only": config.imagebind.text_only,
        "cache": retriever.available,
        "provenance": asdict(provenance),
    }
