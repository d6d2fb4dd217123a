"""The YAML file of `bindserve train decoder`, validated when it is read."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from model_ext.decoders.flow_config import FlowConfig
from model_ext.train.yaml_file import read_yaml

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class DecoderConfig(BaseModel):
    """Paths are relative to the working directory; paths in a list are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # `out`: the folder for checkpoints, logs and the folder `decoder` with the trained weights.
    out: Path
    # `train_list`: a list in the form of `train encoders`. Only its pictures are used, except those
    # with `"anchor": false`.
    train_list: Path
    encoders: Path  # `encoders`: the folder of the encoders that condition the decoder.

    image_side: Count = 160  # The side of a stored picture in pixels.
    side: Annotated[int, Field(ge=8, le=64)] = 32  # The side of a drawn picture in pixels.
    components: Count = 384
    width: Count = 448
    blocks: Count = 3
    condition_width: Count = 128

    steps: Count
    batch: Count = 256
    learning_rate: Positive = 2e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Positive = 1.0
    average: Share = 0.998  # Decay of the weights' moving average, which is what the decoder gets.
    views: Count = 24  # Number of views of each picture: one unchanged, the others varied.
    embedding_views: Count = 4  # Number of embeddings of each picture.
    tilt: Annotated[float, Field(ge=0, le=1)] = 0.1  # Largest rotation of a view in radians.
    shift: Share = 0.05  # Largest shift of a view, relative to half its side.
    zoom: Share = 0.1  # Largest change of a view's size.
    # Maximum length of the noise that is added to a unit embedding.
    noise: Annotated[float, Field(ge=0)] = 0.5
    drop: Share = 0.1  # share of samples without a condition; guidance needs such samples
    # How pictures are drawn (`FlowConfig`). These two keys have no effect on the training.
    guidance: Annotated[float, Field(ge=1, le=20)] = 2.0
    temperature: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: int = 0
    device: str = "auto"  # "auto" trains on the first GPU, if there is one.
    threads: Count | None = None
    save_seconds: Positive = 120

    def sizes(self, embed_dim: int) -> FlowConfig:
        """Return the decoder's sizes for embeddings of length `embed_dim`."""
        own = self.model_dump(include=set(FlowConfig.model_fields) - {"steps"})
        return FlowConfig(embed_dim=embed_dim, **own)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the file. Raises TrainError: when the file is missing or has an invalid key."""
        return read_yaml(path, cls)
