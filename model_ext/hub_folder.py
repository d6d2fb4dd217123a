"""Load the folder of a model of the library transformers: only safetensors, no code from the
folder, and no downloads.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_ext.errors import ConfigError

if TYPE_CHECKING:
    import torch

CLASSIFIER = "ForImageClassification"  # ends the names of image classifiers


def check_classifier(folder: Path) -> None:
    """Check that the folder has an image classifier: transformers loads other models too, and gives
    them a head with random weights. This function imports no library of models.

    Raises ConfigError.
    """
    path = folder / "config.json"
    try:
        names = json.loads(path.read_bytes())["architectures"]
        classifies = any(str(each).endswith(CLASSIFIER) for each in names)
    except (OSError, ValueError, KeyError, TypeError):
        classifies = False
    if not classifies:
        raise ConfigError(
            f"{path}: not an image classifier of transformers (a model whose name ends in "
            f"{CLASSIFIER})"
        )


def load_model(kind: Any, folder: Path, device: "torch.device | str") -> Any:
    """Load a model. `kind`: its class in transformers."""
    options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    return kind.from_pretrained(folder, **options).eval().to(device)


def load_part(kind: Any, folder: Path) -> Any:
    """Load a tokenizer or an image processor of a folder."""
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
