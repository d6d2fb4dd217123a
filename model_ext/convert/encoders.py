"""Copy the encoders of an ImageBind or Point-Bind checkpoint into the model's folder.

Opens the file, finds its sizes and streams it; names and shapes are the imagebind package's.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model_ext.convert.pickles import open_pickle
from model_ext.errors import ConfigError
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, TensorError
from model_ext.imagebind.names import to_ours
from model_ext.imagebind.released import from_released
from model_ext.manifest import Progress
from model_ext.weights.errors import ConvertError
from model_ext.weights.json_file import read_json
from model_ext.weights.ledger import Ledger
from model_ext.weights.tensors import LazyTensor
from model_ext.weights.writer import content, size_of

SIZES_FILE = "imagebind_config.json"


@dataclass(frozen=True, slots=True)
class Encoders:
    config: ImageBindConfig
    tensors: list[LazyTensor]  # by the imagebind package's names
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes of the tensors' file."""
        return size_of(self.tensors)

    def write(self, ledger: Ledger, folder: str, progress: Progress) -> None:
        """In the precision of the source: embeddings decide what a cache retrieves."""
        ledger.rewrite(f"{folder}/{CONFIG_FILE}", self.config.to_json().encode())
        ledger.write(f"{folder}/{TENSORS_FILE}", content(self.tensors), progress)


def open_encoders(path: Path, sizes: Path | None = None) -> Encoders:
    """Head counts are in no tensor's shape: `sizes`, else the file beside it, else the release."""
    beside = path.parent / SIZES_FILE
    if sizes is None and beside.is_file():
        sizes = beside
    try:
        config = (
            ImageBindConfig.from_imagebind_config(read_json(sizes))
            if sizes
            else ImageBindConfig.released()
        )
    except ConfigError as error:
        raise ConvertError(f"{sizes}: {error}") from None
    found = open_pickle(path)
    try:
        # Shapes without memory: the imagebind package checks them, and nothing is read yet.
        shapes = {n: torch.empty(t.shape, dtype=t.dtype, device="meta") for n, t in found.items()}
        model = from_released(shapes, config)
    except TensorError as error:
        raise ConvertError(f"{path}: {error} (sizes from {sizes or 'the release'})") from None
    tensors = [replace(lazy, name=name) for lazy in found.values() if (name := to_ours(lazy.name))]
    return Encoders(model.config, tensors, (path, sizes) if sizes else (path,))
