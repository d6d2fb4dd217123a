"""Choose the device on which a model runs or trains."""

import torch


def choose_device(setting: str) -> str:
    """Return the setting. "auto" means the first GPU if torch finds one, else the CPU."""
    if setting != "auto":
        return setting
    return "cuda" if torch.cuda.is_available() else "cpu"
