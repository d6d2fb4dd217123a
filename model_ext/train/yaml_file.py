"""Read the YAML file of a run into a pydantic model."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from model_ext.train.errors import TrainError

Settings = TypeVar("Settings", bound=BaseModel)


def read_yaml(path: Path, model: type[Settings]) -> Settings:
    """Read the file. Raises TrainError: when the file is missing, is not YAML, or has an invalid
    key.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError:
        raise TrainError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise TrainError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise TrainError(f"{path}: {key + ': ' if key else ''}{first['msg']}") from None
