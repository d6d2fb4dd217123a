"""Read the YAML file of a run into a pydantic model."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from model_ext.train.errors import TrainError

Settings = TypeVar("Settings", bound=BaseModel)


def read_yaml(path: Path, model: type[Settings]) -> Settings:
    """Read the file. Raises TrainError: when the file is missing, is not YAML, or has an invalid
    key.
    """
    return validated(read_document(path), model, str(path))


def read_document(path: Path) -> Any:
    """Read a YAML file. Raises TrainError: when the file is missing or is not YAML."""
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise TrainError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise TrainError(f"{path}: not YAML: {error}") from None


def validated(document: Any, model: type[Settings], where: str) -> Settings:
    """Convert a document. Raises TrainError: when a key is invalid; the message starts with `where`
    and names the key.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise TrainError(f"{where}: {key + ': ' if key else ''}{first['msg']}") from None
