"""Read some of a folder's encoders, and nothing of the others: the largest one is half of them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model_ext.errors import ConfigError
from model_ext.imagebind.config import MODALITIES, ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, ImageBind, TensorError


def read_config(folder: Path) -> ImageBindConfig:
    """FileNotFoundError, or ConfigError that names the file."""
    try:
        return ImageBindConfig.from_json((folder / CONFIG_FILE).read_bytes())
    except ValueError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from None


def load_encoders(folder: Path, modalities: Iterable[str], device: str = "cpu") -> ImageBind:
    """In float32. ConfigError: the folder lacks one of them."""
    config, wanted = read_config(folder), set(modalities)
    if lacking := sorted(wanted - set(config.modalities)):
        raise ConfigError(
            f"{folder}: no {lacking[0]} encoder; there are {', '.join(config.modalities)}"
        )
    others: dict[str, Any] = dict.fromkeys(set(MODALITIES) - wanted)
    try:
        with safe_open(folder / TENSORS_FILE, "pt", device=device) as file:
            names = [name for name in file.keys() if name.split(".")[0] in wanted]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise TensorError(f"{folder / TENSORS_FILE} is damaged", [str(error)]) from None
    return ImageBind.from_tensors(tensors, replace(config, **others))
