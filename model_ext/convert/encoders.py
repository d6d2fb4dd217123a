"""Copy the encoders of an ImageBind or Point-Bind checkpoint into the model's folder.

Opens the file, finds its sizes and streams it; names and shapes are the imagebind package's.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from model_ext.convert.errors import ConvertError
from model_ext.convert.json_file import read_json
from model_ext.convert.pickles import open_pickle
from model_ext.convert.tensors import LazyTensor, stored
from model_ext.convert.writer import Progress, write_file
from model_ext.imagebind.config import ConfigError, ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, ImageBind, TensorError
from model_ext.imagebind.released import from_released

SIZES_FILE = "imagebind_config.json"


@dataclass(frozen=True, slots=True)
class Encoders:
    model: ImageBind  # its tensors are mapped from the file, not read
    files: tuple[Path, ...]

    @property
    def embedding_dim(self) -> int:
        return self.model.config.embed_dim

    @property
    def tensors(self) -> list[LazyTensor]:
        return [stored(name, tensor) for name, tensor in self.model.state_dict().items()]

    def write(self, folder: Path, progress: Progress) -> None:
        """In the precision of the source: embeddings decide what a cache retrieves."""
        folder.mkdir()
        (folder / CONFIG_FILE).write_text(self.model.config.to_json())
        write_file(folder / TENSORS_FILE, self.tensors, progress)


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
    try:
        with torch.no_grad():
            model = from_released(open_pickle(path), config)
    except TensorError as error:
        raise ConvertError(f"{path}: {error} (sizes from {sizes or 'the release'})") from None
    return Encoders(model, (path, sizes) if sizes else (path,))
