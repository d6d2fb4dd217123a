"""The YAML file of `bindserve train detector`, validated when it is read."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from model_ext.train.yaml_file import read_yaml

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


class DetectorConfig(BaseModel):
    """Paths are relative to the working directory; paths in a list are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # `out`: the folder for checkpoints, logs and the folder `detector` with the trained weights.
    out: Path
    # `train_list`: a JSON Lines file. Each line has key, modality, and path or text. Pictures of
    # drawings have an alpha channel. The embedding of a key is the mean over its texts, or, without
    # texts, over its drawings. A larger `weight` (default 1) draws a key more often.
    train_list: Path
    # `validation_list`: pictures, and queries of any modality with the same keys. The curves from
    # cosines to probabilities are fitted to this list. The weights are not trained on it.
    validation_list: Path | None = None
    encoders: Path  # `encoders`: the folder of the model's encoders.
    omit: tuple[str, ...] = ()  # `omit`: keys whose pictures are not used for training.

    steps: Count
    batch: Count = 16  # Number of scenes in a step.
    # Number of crops that the picture encoder learns from in a step, per scene.
    crops: Count = 2
    learning_rate: Positive = 1e-3
    # The picture encoder's learning rate is multiplied by this factor, because it is trained
    # already.
    encoder_rate: Positive = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    max_grad_norm: Positive = 5.0
    side: Annotated[int, Field(gt=0, multiple_of=32)] = 192  # Side of a scene in pixels.
    max_drawings: Count = 8  # Maximum number of drawings in a scene.
    backgrounds: Count = 96  # Number of stored textures. Each scene varies and mixes them.
    image_side: Count = 96  # Side of a stored drawing in pixels.
    seed: int = 0
    # `device`: "auto" trains on the first GPU, if there is one. A GPU also uses bfloat16.
    device: str = "auto"
    threads: Count | None = None
    save_seconds: Positive = 240

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the file. Raises TrainError: when the file is missing, is not YAML, or has an
        invalid key.
        """
        return read_yaml(path, cls)
