"""The one YAML file of `bindserve train encoders`, checked when read.

Knows names and numbers. Does not know tensors.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_ext.imagebind.config import ImageBindConfig
from model_ext.train.errors import TrainError

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EncodersConfig(BaseModel):
    """Paths are relative to the working directory; media paths to the folder of their list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path  # checkpoints, logs, and at the end the encoders' folder
    train_list: Path  # JSON lines: key, modality, path or text, optional weight of the key
    validation_list: Path | None = None
    encoders: dict[str, Any]  # like encoders/config.json of a model's folder
    start: Path | None = None  # an encoders' folder to go on from
    train: tuple[str, ...]  # encoders that learn; the others stay as they are

    steps: Count
    batch: Count  # keys in a step; each is seen once
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    smoothing: Share = 0.1  # of the labels of the contrastive loss
    pair_pictures: bool = True  # align vision also with another picture of the same key
    scales: dict[str, float] = {"vision": 14.0, "point": 14.0}  # where post has no useful one
    image_side: Count = 160  # pixels that a picture is kept with
    anchor_views: Count = 4  # of each picture, when vision is frozen or the anchors are means
    mean_anchors: bool = False  # aim at the mean of a key's pictures as `start` embeds them
    seed: int = 0
    threads: Count | None = None
    save_seconds: Annotated[float, Field(gt=0)] = 240
    log_steps: Count = 1

    @model_validator(mode="after")
    def _check_encoders(self) -> Self:
        sizes = self.sizes
        if "vision" not in sizes.modalities:
            raise ValueError("encoders: vision is missing, the anchor of all the others")
        if unknown := set(self.train) - set(sizes.modalities):
            raise ValueError(f"train: no such encoder: {', '.join(sorted(unknown))}")
        if not self.train:
            raise ValueError("train: name at least one encoder")
        if self.train == ("vision",) and not self.pair_pictures:
            raise ValueError(
                "pair_pictures: pictures alone have only each other to be aligned with"
            )
        if "vision" not in self.train and self.start is None:
            raise ValueError("start: needed when vision is not trained, it would stay random")
        if self.mean_anchors and self.start is None:
            raise ValueError("start: needed for mean_anchors, which are its embeddings")
        return self

    @property
    def sizes(self) -> ImageBindConfig:
        return ImageBindConfig.from_json(json.dumps(self.encoders))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except FileNotFoundError:
            raise TrainError(f"{path}: no such file") from None
        except yaml.YAMLError as error:
            raise TrainError(f"{path}: not YAML: {error}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise TrainError(f"{path}: {key + ': ' if key else ''}{first['msg']}") from None
