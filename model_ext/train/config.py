"""The one YAML file of `bindserve train pretrain|finetune`, checked when read.

Knows names and numbers; what is left out comes from the released recipe of the phase.
"""

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_ext.config import InjectionForm
from model_ext.train.data.examples import Turns
from model_ext.train.data.tokens import InstructionForm
from model_ext.train.errors import TrainError
from model_ext.train.lm.phase import RECIPES, Phase

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TrainConfig(BaseModel):
    """Paths are relative to the working directory, pictures to `media_root`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path  # checkpoints, logs, and at the end adapter.safetensors
    base: Path  # a LLaMA in Hugging Face's or Meta's layout
    tokenizer: Path | None = None  # default: beside the base
    encoders: Path  # an encoders' folder (of a converted model, or of `train encoders`)
    start: Path | None = None  # `out` of the phase before; needed for finetune
    deepspeed: Path | None = None  # DeepSpeed's JSON file; default: ZeRO stage 0

    data: Annotated[tuple[Path, ...], Field(min_length=1)]  # all sources are mixed
    media_root: Path = Path()
    turns: Turns = "first"  # of a conversation; the released code learns the first only
    instruction_form: InstructionForm = "plain"
    embedding_cache: Path | None = None  # default: <out>/embeddings
    image_views: Count = 1  # encoded once each; beyond the first, random crops as released
    workers: Annotated[int, Field(ge=0)] = 2  # that decode pictures

    max_tokens: Count
    epochs: Count
    warmup_epochs: NotNegative
    split: Count  # sub-epochs that make one pass over the data
    base_learning_rate: Positive  # for an effective batch of 256
    min_learning_rate: NotNegative = 0.0
    gate_factor: Positive = 1.0  # of the gates' learning rate
    weight_decay: NotNegative
    batch: Count = 4  # of one process
    accumulate: Count = 1
    save_epochs: Count
    save_seconds: Positive | None = None  # a checkpoint also so often
    keep_checkpoints: Count = 2

    injection: InjectionForm = "value"  # of the released weights; `residual` is the paper's
    injected_layers: Count | None = None  # the last so many; default: all
    bind_width: Count | None = None  # default: four times the hidden size
    bind_blocks: Count = 3
    lora_rank: Count = 16
    checkpoint_activations: bool = False
    remember_texts: bool = False  # pretrain: run equal texts through the lower layers once
    seed: int = 0
    threads: Count | None = None

    @classmethod
    def from_file(cls, path: Path, phase: Phase) -> Self:
        try:
            written = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            raise TrainError(f"{path}: no such file") from None
        except yaml.YAMLError as error:
            raise TrainError(f"{path}: not YAML: {error}") from None
        return cls.of(written, phase, str(path))

    @classmethod
    def of(cls, written: Any, phase: Phase, where: str = "config") -> Self:
        """Fill in the phase's recipe. `META`, the released name of the data list, is fine too."""
        if not isinstance(written, dict):
            raise TrainError(f"{where}: expected keys and values")
        written = {("data" if key == "META" else key): value for key, value in written.items()}
        try:
            config = cls.model_validate(recipe(phase) | written)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise TrainError(f"{where}: {key + ': ' if key else ''}{first['msg']}") from None
        if phase == "finetune" and config.start is None:
            raise TrainError(f"{where}: start: finetune goes on from a pretrain's `out`")
        if phase == "finetune" and config.remember_texts:
            raise TrainError(f"{where}: remember_texts: the lower layers learn in finetune")
        return config


def recipe(phase: Phase) -> dict[str, Any]:
    """The released defaults under the names of this file."""
    released = RECIPES[phase]
    return {
        "max_tokens": released.max_tokens,
        "epochs": released.epochs,
        "warmup_epochs": released.warmup_epochs,
        "base_learning_rate": released.base_learning_rate,
        "weight_decay": released.weight_decay,
        "save_epochs": released.save_epochs,
        "split": released.passes_per_epoch,
    }
