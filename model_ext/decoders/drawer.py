"""The side model that draws pictures (model_ext/side.py): it batches the pictures of all requests.

A task is one picture. Its document has the optional keys `prompt`, `seed` and the settings of a
picture; its array `embedding` (D,) conditions the picture. The result's array `png` has the bytes
of a PNG file.
"""

import io
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
from model_ext.decoders.unclip import UnclipDecoder
from model_ext.errors import ConfigError
from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled
from model_ext.weights.errors import ConvertError

PIPELINE_FILE = "model_index.json"  # every pipeline folder of diffusers has this file
MAX_SEED = 2**63 - 1


class Drawer:
    """Draws with one decoder."""

    def __init__(self, decoder: PictureDecoder, max_batch: int, threads: int = 1) -> None:
        """`threads`: the number of torch's threads for a batch on a CPU."""
        self.device = decoder.device
        self._threads = threads
        self.max_batch = max_batch
        self._decoder = decoder
        self.gpu_bytes = self._warm_up() if decoder.device.startswith("cuda") else 0

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

    def _warm_up(self) -> int:
        """Draw the largest batch of pictures of the default size, in one step. Returns the peak GPU
        memory in bytes.
        """
        defaults = self._decoder.defaults
        settings = PictureSettings(defaults.width, defaults.height, 1, defaults.guidance, 0)
        embeddings = np.ones((self.max_batch, self._decoder.embed_dim), np.float32)
        count = range(self.max_batch)
        self._decoder.draw(embeddings, ["" for _ in count], list(count), settings, lambda: None)
        return torch.cuda.max_memory_reserved(self.device)


def result(picture: Pixels) -> SideData:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    height, width = picture.shape[:2]
    png = np.frombuffer(file.getvalue(), np.uint8)
    return SideData({"width": width, "height": height}, {"png": png})


def load(folder: Path, device: str, threads: int, max_batch: int) -> Drawer:
    """Load the decoder in a folder: a flow, or a pipeline of the library diffusers.

    Raises ConfigError: when the folder is neither, or its decoder's library is not installed.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not folder.is_dir():
        raise ConfigError(f"--decoder {folder}: no such folder")
    if (folder / PIPELINE_FILE).is_file():
        return Drawer(UnclipDecoder.from_folder(folder, device), max_batch, threads)
    try:
        return Drawer(FlowDecoder.from_folder(folder, device), max_batch, threads)
    except ConvertError as error:
        raise ConfigError(f"--decoder {error}") from None
