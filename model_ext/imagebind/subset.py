"""Read only some encoders of a folder. This saves memory: the largest encoder is half of the
weights file.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from model_ext.errors import ConfigError
from model_ext.imagebind.config import MODALITIES, ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, ImageBind, TensorError


def read_config(folder: Path) -> ImageBindConfig:
    """Read the encoders' config.json.

    Raises FileNotFoundError, ConfigError: the message names the file.
    """
    try:
        return ImageBindConfig.from_json((folder / CONFIG_FILE).read_bytes())
    except ValueError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from None


def load_encoders(folder: Path, modalities: Iterable[str], device: str = "cpu") -> ImageBind:
    """Read a model that has only the encoders of these modalities, in float32.

    Raises ConfigError: when the folder has no encoder of a modality.
    """
    config, selected = read_config(folder), set(modalities)
    if missing := sorted(selected - set(config.modalities)):
        raise ConfigError(
            f"{folder}: no {missing[0]} encoder; there are {', '.join(config.modalities)}"
        )
    others: dict[str, Any] = dict.fromkeys(set(MODALITIES) - selected)
    try:
        with safe_open(folder / TENSORS_FILE, "pt", device=device) as file:
            names = [name for name in file.keys() if name.split(".")[0] in selected]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise TensorError(f"{folder / TENSORS_FILE} is damaged", [str(error)]) from None
    return ImageBind.from_tensors(tensors, replace(config, **others)).cast(torch.float32)
