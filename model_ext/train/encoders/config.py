"""The YAML file of `bindserve train encoders`, validated when it is read."""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model_ext.imagebind.config import ImageBindConfig
from model_ext.train.yaml_file import read_yaml

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EncodersConfig(BaseModel):
    """Paths are relative to the working directory; paths in a list are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # `out`: the folder for checkpoints, logs and the folder `encoders` with the trained weights.
    out: Path
    # `train_list`: a JSON Lines file. Each line has key, modality, path or text, optional weight.
    train_list: Path
    validation_list: Path | None = None  # `validation_list`: a file like `train_list`.
    # `encoders`: the encoders' sizes, as in the file encoders/config.json of a model.
    encoders: dict[str, Any]
    start: Path | None = None  # `start`: a folder with the encoders' initial weights.
    train: tuple[str, ...]  # `train`: the names of the encoders to train; all others are frozen.

    steps: Count
    batch: Count  # number of distinct keys (concepts) in a step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    smoothing: Share = 0.1  # Label smoothing of the contrastive loss.
    pair_pictures: bool = True  # Whether to align pictures of a key with each other.
    # Encoder -> factor of its similarities in the loss, for encoders without a trained logit scale.
    scales: dict[str, float] = {"vision": 14.0, "point": 14.0}
    image_side: Count = 160  # The side of a stored picture in pixels.
    # Number of views of each picture. Only used if vision is frozen, or if mean_anchors is true.
    anchor_views: Count = 4
    # Whether to align samples with the mean picture embedding of their key. The picture embeddings
    # are computed with the weights of `start`.
    mean_anchors: bool = False
    seed: int = 0
    threads: Count | None = None
    save_seconds: Annotated[float, Field(gt=0)] = 240
    log_steps: Count = 1

    @model_validator(mode="after")
    def _check_encoders(self) -> Self:
        sizes = self.sizes
        if "vision" not in sizes.modalities:
            raise ValueError("encoders: vision is missing; the other encoders are aligned with it")
        if unknown := set(self.train) - set(sizes.modalities):
            raise ValueError(f"train: no such encoder: {', '.join(sorted(unknown))}")
        if not self.train:
            raise ValueError("train: name at least one encoder")
        if self.train == ("vision",) and not self.pair_pictures:
            raise ValueError("pair_pictures: must be true if vision is the only trained encoder")
        if "vision" not in self.train and self.start is None:
            raise ValueError(
                "start: required if vision is not trained, because it has random weights"
            )
        if self.mean_anchors and self.start is None:
            raise ValueError(
                "start: required for mean_anchors, which the encoders in this folder compute"
            )
        return self

    @property
    def sizes(self) -> ImageBindConfig:
        return ImageBindConfig.from_json(json.dumps(self.encoders))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the file. Raises TrainError: when the file is missing, is not YAML, or has an
        invalid key.
        """
        return read_yaml(path, cls)
