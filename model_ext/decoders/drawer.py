"""The side model that draws pictures (model_ext/side.py): it batches the pictures of all requests.

A task is one picture. Its document has the optional keys `prompt`, `seed` and the settings of a
picture; its array `embedding` (D,) conditions the picture. The result's array `png` has the bytes
of a PNG file.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model_ext.decoders.flow_decoder import FlowDecoder
from model_ext.decoders.picture_decoder import (
    PictureDecoder,
    PictureSettings,
    Pixels,
    SettingsError,
)
from model_ext.decoders.unclip import MULTIPLE, UnclipDecoder
from model_ext.device import choose_device
from model_ext.errors import ConfigError
from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled
from model_ext.weights.errors import ConvertError

PIPELINE_FILE = "model_index.json"  # every pipeline folder of diffusers has this file
MAX_SEED = 2**63 - 1


class Drawer:
    """Draws with one decoder."""

    def __init__(
        self, decoder: PictureDecoder, max_batch: int, threads: int = 1, max_pixels: int = 0
    ) -> None:
        """`threads`: the number of torch's threads for a batch on a CPU. `max_pixels`: the maximum
        width times height of a picture that a request may ask for.

        Raises ConfigError: when the GPU has too little memory.
        """
        self.device = decoder.device
        self._threads = threads
        self.max_batch = max_batch
        self._decoder = decoder
        self.gpu_bytes = 0
        if decoder.device.startswith("cuda"):
            self.gpu_bytes = self._warm_up(largest_settings(decoder.defaults, max_pixels))

    def kind(self, document: Json) -> PictureSettings:
        """Tasks with equal settings share a batch. Raises TaskError: for bad settings."""
        settings = PictureSettings.of(document, self._decoder.defaults)
        try:
            self._decoder.check(settings)
        except SettingsError as error:
            raise TaskError(str(error)) from None
        return settings

    def run(self, tasks: Sequence[Task]) -> list[SideData]:
        """Draw one picture per task. Raises TaskError: when an embedding has a wrong length."""
        torch.set_num_threads(self._threads)  # OpenMP stores this number per thread
        dim = self._decoder.embed_dim
        embeddings = [np.asarray(task.data.arrays["embedding"], np.float32) for task in tasks]
        if any(each.shape != (dim,) for each in embeddings):
            raise TaskError(f"the decoder draws from embeddings of {dim} numbers")
        documents = [task.data.document for task in tasks]
        pictures = self._decoder.draw(
            np.stack(embeddings),
            [str(document.get("prompt", "")) for document in documents],
            [int(document.get("seed", 0)) for document in documents],
            self.kind(documents[0]),
            lambda: stop_if_cancelled(tasks),
        )
        return [result(picture) for picture in pictures]

    def _warm_up(self, settings: PictureSettings) -> int:
        """Draw the largest batch of pictures, so that torch reserves the GPU memory for it. Returns
        the reserved memory in bytes.

        Raises ConfigError.
        """
        embeddings = np.ones((self.max_batch, self._decoder.embed_dim), np.float32)
        count = range(self.max_batch)
        try:
            self._decoder.draw(embeddings, ["" for _ in count], list(count), settings, lambda: None)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"the GPU has too little memory for {self.max_batch} pictures of {settings.width} "
                f"x {settings.height} pixels; lower decoder_batch or max_picture_pixels"
            ) from None
        return torch.cuda.max_memory_reserved(self.device)


def largest_settings(defaults: PictureSettings, max_pixels: int) -> PictureSettings:
    """The settings that need the most memory, with one step: the largest square with at most
    `max_pixels` pixels, or the default size if it is larger, and guidance, which doubles the batch.
    """
    width, height = defaults.width, defaults.height
    side = math.isqrt(max_pixels) // MULTIPLE * MULTIPLE
    if side * side > width * height:
        width = height = side
    return PictureSettings(width, height, 1, max(defaults.guidance, 2.0), 0)


def result(picture: Pixels) -> SideData:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    height, width = picture.shape[:2]
    png = np.frombuffer(file.getvalue(), np.uint8)
    return SideData({"width": width, "height": height}, {"png": png})


def load(folder: Path, device: str, threads: int, max_batch: int, max_pixels: int = 0) -> Drawer:
    """Load the decoder in a folder: a flow, or a pipeline of the library diffusers.

    Raises ConfigError: when the folder is neither, its decoder's library is not installed, or the
    GPU has too little memory.
    """
    device = choose_device(device)
    if not folder.is_dir():
        raise ConfigError(f"--decoder {folder}: no such folder")
    if (folder / PIPELINE_FILE).is_file():
        decoder: PictureDecoder = UnclipDecoder.from_folder(folder, device)
    else:
        try:
            decoder = FlowDecoder.from_folder(folder, device)
        except ConvertError as error:
            raise ConfigError(f"--decoder {error}") from None
    return Drawer(decoder, max_batch, threads, max_pixels)
