"""Encoders with random weights instead of those of a file, to measure speed."""

from pathlib import Path

import torch

from model_ext.errors import ConfigError
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, ImageBind


def from_config(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ImageBind:
    """Create encoders with the sizes of the folder's config.json. The folder needs no weights.

    Raises FileNotFoundError, ConfigError: when config.json is missing or wrong.
    """
    try:
        config = ImageBindConfig.from_json((folder / CONFIG_FILE).read_bytes())
    except ValueError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from None
    torch.manual_seed(0)
    with torch.device(device):
        model = ImageBind(config)
    return model.cast(dtype).eval().requires_grad_(False)
