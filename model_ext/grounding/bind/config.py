"""The sizes of bindserve's own detector, in the file config.json of its folder."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_ext.errors import ConfigError
from model_ext.imagebind.config import ImageBindConfig

MODEL_TYPE = "bindserve_detector"
CONFIG_FILE, TENSORS_FILE = "config.json", "model.safetensors"


class Calibration(BaseModel):
    """The score of a box for a query: sigmoid(slope * cosine + weight * log(objectness) + offset).

    It is the probability that the box shows the query's thing, if half of all boxes do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(gt=0)
    weight: float = Field(ge=0)
    offset: float


class BindDetectorConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_type: str = Field(default=MODEL_TYPE, pattern=f"^{MODEL_TYPE}$")
    side: int = Field(default=192, gt=0, le=4096, multiple_of=32)  # Side of the square in pixels.
    # Channels of the network at 1/4, 1/8, 1/16 and 1/32 of the square's side.
    channels: tuple[int, int, int, int] = (32, 64, 128, 192)
    head_channels: int = Field(default=96, gt=0)
    max_boxes: int = Field(default=30, gt=0, le=1000)  # maximum number of boxes in one picture
    min_objectness: float = Field(default=0.05, ge=0, le=1)
    margin: float = Field(
        default=0.1, ge=0, le=1
    )  # A crop adds this share of the box's side on each side.
    encoder: dict[str, Any]  # Sizes of the picture encoder, as in encoders/config.json.
    # The modality of a query -> the curve that turns its cosines into probabilities.
    calibration: dict[str, Calibration] = {}
    threshold: float = Field(
        default=0.3, ge=0, le=1
    )  # minimum score of a thing that counts as present

    @property
    def sizes(self) -> ImageBindConfig:
        return ImageBindConfig.from_json(json.dumps(self.encoder))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Raises FileNotFoundError, or ConfigError: the message names the file and the key."""
        path = folder / CONFIG_FILE
        try:
            config = cls.model_validate_json(path.read_bytes())
            if "vision" not in config.sizes.modalities:
                raise ValueError("encoder: vision is missing")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{path}: {key}: {first['msg']}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        return config
