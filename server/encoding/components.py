"""The components of the encoding service: decoding processes, batcher and result cache.

They are opened from a model's folder. A server with several API processes also has only one
encoding service.
"""

import asyncio
import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from model_ext.conditioning import Vector
from model_ext.config import has_language_model, read_document
from model_ext.device import choose_device
from model_ext.errors import ConfigError
from model_ext.imagebind import dummy
from model_ext.imagebind.config import Dtype
from model_ext.imagebind.dtype import choose_dtype, torch_dtype, zero_image
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.runner import max_gpu_bytes, open_runner
from model_ext.imagebind.work import sample_tokens
from server.encoding.batcher import MAX_STAGED_BYTES, Batcher
from server.encoding.cache import ResultCache
from server.encoding.decode.pool import DecodePool, DecodeSettings
from server.encoding.embedder import Embedder
from server.encoding.messages import Hello
from server.media.embedded import Embedded
from server.settings import Settings

logger = logging.getLogger(__name__)

ENCODERS = "encoders"  # Name of the encoders' folder inside a model folder.
# Number of tokens of one image in ImageBind-huge. The setting `encode_batch` counts in this unit.
IMAGE_TOKENS = 257


@dataclass(frozen=True, slots=True)
class EncodingComponents:
    decoder: DecodePool
    batcher: Batcher
    contents: ResultCache[Embedded]
    modalities: tuple[str, ...]  # the modalities that the model's encoders support
    device: str
    dtype: Dtype
    zero_image: Vector  # Shape (D,): the embedding for requests without attachments.
    gpu_bytes: int = 0  # The maximum GPU memory that the encoders and their batches use.
    stall_s: float = 30  # Seconds of one batch after which the encoders count as stalled.
    # The length of the prenorm of an image of zeros; 0 if the server has no decoder of pictures.
    prenorm_length: float = 0

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Load the encoders, and start the decoding processes.

        Raises ConfigError, TensorError, OSError: when the model's folder is damaged or incomplete.
        Raises Unavailable: when no decoding process starts.
        """
        folder = settings.model / ENCODERS
        device = choose_device(settings.encode_device)
        dtype = choose_dtype(settings.encode_dtype, device)
        model = open_encoders(folder, settings, device)
        model.keep_prenorm = settings.decoder is not None
        zero = await asyncio.to_thread(text_only, model, settings.model)
        length = await asyncio.to_thread(zero_length, model) if model.keep_prenorm else 0.0
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
            max_gpu_bytes(device, MAX_STAGED_BYTES),
            settings.stall_s,
            length,
        )

    def hello(self) -> Hello:
        """The description of the encoders that API processes receive."""
        return Hello(list(self.modalities), self.dtype, self.gpu_bytes, self.prenorm_length)

    def embedder(self) -> Embedder:
        prenorm = self.prenorm_length > 0
        return Embedder(self.decoder, self.batcher, self.modalities, self.contents, prenorm=prenorm)

    def missing(self) -> str | None:
        """Return the reason why the service cannot embed files, or None if it can."""
        if not self.batcher.alive:
            return "the encoders stopped"
        if not self.decoder.alive:
            return "no decoding process runs"
        if (stalled_s := self.batcher.stalled_s()) >= self.stall_s:
            return f"the encoders have finished no batch for {stalled_s:.0f} s"
        return None

    async def close(self) -> None:
        await self.decoder.close()
        self.batcher.close()


def open_encoders(folder: Path, settings: Settings, device: str) -> ImageBind:
    """Load the encoders in float32.

    Loads the image encoder on the device, where it computes `zero_image`, and the other encoders on
    the CPU, so that the device never contains more than one encoder in float32. `open_batcher`
    casts the encoders to `dtype` later.
    """
    if settings.encode_load_format == "dummy":
        return dummy.from_config(folder, device)
    model = ImageBind.from_folder(folder)
    if model.config.vision is not None:
        model.encoder("vision").to(device)
    return model


def open_batcher(model: ImageBind, settings: Settings, device: str, dtype: Dtype) -> Batcher:
    """Cast the model in place, move it to the device, and start a batcher for it.

    On a GPU, also runs warm-up batches, which takes seconds.
    """
    model.cast(torch_dtype(dtype), device)
    logger.info("encoders: %s on %s, weights in %s", ", ".join(model.modalities), device, dtype)
    max_tokens = settings.encode_batch * IMAGE_TOKENS
    return Batcher(
        open_runner(model, device, max_tokens, graphs=settings.encode_graphs),
        partial(sample_tokens, model.config),
        max_tokens=max_tokens,
        max_waiting=settings.encode_waiting,
        threads=settings.encode_threads,
    )


def text_only(model: ImageBind, folder: Path) -> Tensor:
    """The embedding (D,) of an image of zeros. Only language models need this embedding.

    It is zero if the model has neither a language model nor an image encoder.
    """
    if model.config.vision is None and not has_language_model(read_document(folder)):
        return torch.zeros(model.config.embed_dim)
    return zero_image(model)


@torch.inference_mode()
def zero_length(model: ImageBind) -> float:
    """The length of the prenorm of an image of zeros."""
    if model.config.vision is None:
        raise ConfigError("--decoder: needs a model with an encoder of pictures")
    size = model.config.vision.image_size
    weight = next(model.encoder("vision").parameters())
    zeros = torch.zeros(1, 3, size, size, device=weight.device)
    return float(model.prenorm("vision", zeros).norm())


def decode_settings(settings: Settings) -> DecodeSettings:
    return DecodeSettings(
        workers=settings.decode_workers,
        waiting=settings.decode_waiting,
        timeout_s=settings.decode_timeout_s,
        memory_bytes=settings.decode_memory_bytes,
        max_bytes=settings.max_file_bytes,
        limits=asdict(settings.limits),
    )
