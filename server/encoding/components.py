"""What the encoding service is made of: decoding processes, encoders, and the cache of results.

Opened from the model's folder. One set of it per server, however many API processes there are.
"""

from dataclasses import asdict, dataclass
from typing import Self

import torch

from model_ext.conditioning import Vector
from model_ext.errors import ConfigError
from model_ext.imagebind import dummy
from model_ext.imagebind.model import ImageBind
from server.encoding.batcher import Encoder
from server.encoding.cache import ResultCache
from server.encoding.decode.pool import DecodePool, DecodeSettings
from server.settings import Settings

ENCODERS = "encoders"  # the folder inside a model's folder


@dataclass(frozen=True, slots=True)
class EncodingComponents:
    decoder: DecodePool
    encoder: Encoder
    contents: ResultCache
    modalities: tuple[str, ...]  # the encoders that the model has
    device: str
    zero_image: Vector  # (D,) unit embedding of an image of zeros, after normalising pixels

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Read the encoders, start the decoding processes. ConfigError, TensorError, OSError,
        Unavailable."""
        folder = settings.model / ENCODERS
        device = choose_device(settings.encode_device)
        load = (
            dummy.from_config if settings.encode_load_format == "dummy" else ImageBind.from_folder
        )
        model = load(folder, device)
        encoder = Encoder(
            model,
            device=device,
            max_batch=settings.encode_batch,
            max_waiting=settings.encode_waiting,
            threads=settings.encode_threads,
        )
        decoder = DecodePool(decode_settings(settings), (folder / "config.json").read_bytes())
        await decoder.start()
        return cls(
            decoder,
            encoder,
            ResultCache(settings.embedding_cache_bytes),
            tuple(model.modalities),
            device,
            await zero_image(encoder, model),
        )

    def missing(self) -> str | None:
        """What keeps it from working, if anything."""
        if not self.encoder.alive:
            return "the encoders stopped"
        if not self.decoder.alive:
            return "no decoding process runs"
        return None

    async def close(self) -> None:
        await self.decoder.close()
        self.encoder.close()


async def zero_image(encoder: Encoder, model: ImageBind) -> Vector:
    if model.config.vision is None:
        raise ConfigError("text_only is zero_image, but the model has no vision encoder")
    size = model.config.vision.image_size
    return await encoder.encode("vision", torch.zeros(3, size, size))


def choose_device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
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
