"""The components of the encoding service: decoding processes, batcher, and the cache of results.

Opened from a model's folder. A server has one set of them, also with several API processes.
"""

import asyncio
import logging
from dataclasses import asdict, dataclass
from functools import partial
from typing import Self

import torch

from model_ext.conditioning import Vector
from model_ext.imagebind import dummy
from model_ext.imagebind.config import Dtype
from model_ext.imagebind.dtype import choose_dtype, torch_dtype, zero_image
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.runner import open_runner
from model_ext.imagebind.work import sample_tokens
from server.encoding.batcher import Batcher
from server.encoding.cache import ResultCache
from server.encoding.decode.pool import DecodePool, DecodeSettings
from server.settings import Settings

logger = logging.getLogger(__name__)

ENCODERS = "encoders"  # the folder inside a model's folder
IMAGE_TOKENS = 257  # of ImageBind-huge: the unit of the setting `encode_batch`


@dataclass(frozen=True, slots=True)
class EncodingComponents:
    decoder: DecodePool
    batcher: Batcher
    contents: ResultCache
    modalities: tuple[str, ...]  # of the model's encoders
    device: str
    dtype: Dtype
    zero_image: Vector  # (D,) the embedding of a request without attachments

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Read the encoders, start the decoding processes.

        Raises ConfigError, TensorError, OSError: when the model's folder is damaged or incomplete.
        Raises Unavailable: when no decoding process starts.
        """
        folder = settings.model / ENCODERS
        device = choose_device(settings.encode_device)
        load = (
            dummy.from_config if settings.encode_load_format == "dummy" else ImageBind.from_folder
        )
        dtype = choose_dtype(settings.encode_dtype, device)
        # In float32 until zero_image is computed.
        model = load(folder, device)
        zero = await asyncio.to_thread(zero_image, model)
        batcher = open_batcher(model, settings, device, dtype)
        decoder = DecodePool(decode_settings(settings), (folder / "config.json").read_bytes())
        await decoder.start()
        return cls(
            decoder,
            batcher,
            ResultCache(settings.embedding_cache_bytes),
            tuple(model.modalities),
            device,
            dtype,
            zero.numpy(),
        )

    def missing(self) -> str | None:
        """The reason why the service cannot work, or None."""
        if not self.batcher.alive:
            return "the encoders stopped"
        if not self.decoder.alive:
            return "no decoding process runs"
        return None

    async def close(self) -> None:
        await self.decoder.close()
        self.batcher.close()


def open_batcher(model: ImageBind, settings: Settings, device: str, dtype: Dtype) -> Batcher:
    """Cast the model in place, and start a batcher on it. On a GPU, warms up (seconds)."""
    model.cast(torch_dtype(dtype))
    logger.info("encoders: %s on %s, weights in %s", ", ".join(model.modalities), device, dtype)
    max_tokens = settings.encode_batch * IMAGE_TOKENS
    return Batcher(
        open_runner(model, device, max_tokens, graphs=settings.encode_graphs),
        partial(sample_tokens, model.config),
        max_tokens=max_tokens,
        max_waiting=settings.encode_waiting,
        threads=settings.encode_threads,
    )


def choose_device(setting: str) -> str:
    """auto: a GPU if there is one."""
    if setting != "auto":
        return setting
    return "cuda" if torch.cuda.is_available() else "cpu"


def decode_settings(settings: Settings) -> DecodeSettings:
    return DecodeSettings(
        workers=settings.decode_workers,
        waiting=settings.decode_waiting,
        timeout_s=settings.decode_timeout_s,
        memory_bytes=settings.decode_memory_bytes,
        max_bytes=settings.max_file_bytes,
        limits=asdict(settings.limits),
    )
