"""Open a detector's folder. Its config.json says which kind of detector it is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from model_ext.errors import ConfigError
from model_ext.grounding.bind.config import MODEL_TYPE
from model_ext.grounding.detector import Detector, Takes

if TYPE_CHECKING:
    import torch

HUB = {"owlv2": "owlv2:Owlv2", "grounding-dino": "grounding_dino:GroundingDino"}
HUB |= {"omdet-turbo": "omdet:OmDet"}


def model_type(folder: Path) -> str:
    """Return the kind of the detector. Raises ConfigError, FileNotFoundError: the message names the
    file.
    """
    path = folder / "config.json"
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        raise ConfigError(f"{path}: not JSON") from None
    name = document.get("model_type") if isinstance(document, dict) else None
    if name not in (MODEL_TYPE, *HUB):
        kinds = ", ".join((MODEL_TYPE, *HUB))
        raise ConfigError(f"{path}: model_type must be one of {kinds}")
    return str(name)


def takes(folder: Path) -> Takes:
    """Return whether the detector's queries are texts or embeddings. Raises the same errors as
    `model_type`.
    """
    return "vectors" if model_type(folder) == MODEL_TYPE else "texts"


def open_detector(folder: Path, device: "torch.device | str" = "cpu") -> Detector:
    """Load a detector.

    Raises ConfigError, OSError, TensorError: when a file is missing or wrong. ImportError: when the
    extra `ground` is not installed.
    """
    kind = model_type(folder)
    if kind == MODEL_TYPE:
        from model_ext.grounding.bind.detector import BindDetector

        return BindDetector.from_folder(folder, device)
    from importlib import import_module

    from model_ext.grounding.hub.base import TextDetector

    module, name = HUB[kind].split(":")
    architecture = getattr(import_module(f"model_ext.grounding.hub.{module}"), name)
    return TextDetector(architecture.from_folder(folder, device))
