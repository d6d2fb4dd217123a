"""Copy the encoders of an ImageBind or Point-Bind checkpoint into the model's folder.

This module opens the file, finds the sizes and copies tensor after tensor. The imagebind package
defines the names and shapes.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model_ext.convert.pickles import open_pickle
from model_ext.errors import ConfigError
from model_ext.imagebind.config import MODALITIES, ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, TensorError
from model_ext.imagebind.names import to_ours
from model_ext.imagebind.released import from_released
from model_ext.manifest import Progress
from model_ext.weights.errors import ConvertError
from model_ext.weights.json_file import read_json
from model_ext.weights.ledger import Ledger
from model_ext.weights.safetensors_file import open_safetensors
from model_ext.weights.tensors import LazyTensor
from model_ext.weights.writer import content, size_of

SIZES_FILE = "imagebind_config.json"


@dataclass(frozen=True, slots=True)
class Encoders:
    config: ImageBindConfig
    tensors: list[LazyTensor]  # tensors with the names of the imagebind package
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Size in bytes of the file that `write` writes."""
        return size_of(self.tensors)

    def write(self, ledger: Ledger, folder: str, progress: Progress) -> None:
        """Write the encoders in the checkpoint's dtype: rounding would change embeddings."""
        ledger.rewrite(f"{folder}/{CONFIG_FILE}", self.config.to_json().encode())
        ledger.write(f"{folder}/{TENSORS_FILE}", content(self.tensors), progress)


def open_encoders(
    path: Path, sizes: Path | None = None, modalities: Collection[str] = ()
) -> Encoders:
    """Open the encoders of a checkpoint: a .pth or .safetensors file, or a folder with one of them.

    The numbers of attention heads cannot be derived from tensor shapes. They come from the file
    `sizes`, or else from SIZES_FILE in the checkpoint's folder, or else from the released model.
    `modalities`: the names of the encoders to keep; empty: all.

    Raises ConvertError: when the sizes are invalid or do not fit the tensors.
    """
    path = find_checkpoint(path)
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
    tensors = open_pickle(path) if path.suffix != ".safetensors" else open_safetensors(path)
    if modalities:
        tensors = {n: t for n, t in tensors.items() if modality_of(n) in {*modalities, None}}
        present = {modality_of(name) for name in tensors}
        if missing := sorted({*modalities} - present):
            raise ConvertError(f"{path}: has no {missing[0]} encoder")
        others: dict[str, Any] = dict.fromkeys({*MODALITIES} - {*modalities})
        config = replace(config, **others)
    try:
        # Create tensors without memory, whose shapes the imagebind package checks.
        shapes = {n: torch.empty(t.shape, dtype=t.dtype, device="meta") for n, t in tensors.items()}
        model = from_released(shapes, config)
    except TensorError as error:
        raise ConvertError(f"{path}: {error} (sizes from {sizes or 'the release'})") from None
    renamed = [replace(t, name=name) for t in tensors.values() if (name := to_ours(t.name))]
    return Encoders(model.config, renamed, (path, sizes) if sizes else (path,))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint: `path` itself, or the only weights file in the folder `path`."""
    if not path.is_dir():
        return path
    for pattern in ("*.safetensors", "*.pth", "*.bin"):
        if files := sorted(path.glob(pattern)):
            if len(files) > 1:
                raise ConvertError(f"{path}: has {len(files)} {pattern} files; name one of them")
            return files[0]
    raise ConvertError(f"{path}: has no .safetensors or .pth file")


def modality_of(released: str) -> str | None:
    """Return the encoder to which a released tensor belongs. None if the name is unknown or the
    tensor is dropped.
    """
    try:
        name = to_ours(released)
    except KeyError:
        return None
    return name and name.split(".")[0]
