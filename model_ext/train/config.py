"""The YAML file of `bindserve train pretrain|finetune`, validated when it is read.

Missing keys have the values of the phase's released recipe.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from model_ext.config import InjectionForm
from model_ext.train.data.conversations import Turns
from model_ext.train.data.tokens import InstructionForm
from model_ext.train.errors import TrainError
from model_ext.train.lm.phase import RECIPES, Phase
from model_ext.train.yaml_file import read_document, validated

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TrainConfig(BaseModel):
    """The settings of a training run. Paths of pictures are relative to `media_root`, all other
    paths to the working directory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path  # `out`: the folder for checkpoints, logs and adapter.safetensors.
    base: Path  # `base`: a folder with a LLaMA in Hugging Face's or Meta's layout.
    tokenizer: Path | None = None  # `tokenizer`: a file. Default: the tokenizer in `base`.
    encoders: Path  # `encoders`: a folder written by a conversion or by `train encoders`.
    # `start`: the folder `out` of the previous phase; required in finetune.
    start: Path | None = None
    deepspeed: Path | None = None  # `deepspeed`: a JSON file. Default: ZeRO stage 0.

    # training files, whose examples are mixed
    data: Annotated[tuple[Path, ...], Field(min_length=1)]
    media_root: Path = Path()
    # The rounds of a conversation to train on: `first` (as the released code), `every` round as a
    # separate example, or `all` rounds in one example.
    turns: Turns = "first"
    image_mark: bool = False  # Keep LLaVA's mark <image> in questions, as the released code does.
    instruction_form: InstructionForm = "plain"
    embedding_cache: Path | None = None  # Folder of embeddings. Default: <out>/embeddings.
    image_views: Count = 1  # Number of views of a picture; all but the first are random crops.
    # the largest standard deviation of the noise that is added to embeddings, which have length 1
    embedding_noise: NotNegative = 0.0
    workers: Annotated[int, Field(ge=0)] = 2  # Number of processes that decode pictures.

    max_tokens: Count
    epochs: Count
    warmup_epochs: NotNegative
    split: Count  # Number of sub-epochs that make one pass over the data.
    base_learning_rate: Positive  # Learning rate for 256 samples per update.
    min_learning_rate: NotNegative = 0.0
    gate_factor: Positive = 1.0  # Factor of the gates' learning rate.
    weight_decay: NotNegative
    batch: Count = 4  # Number of samples in a batch of one process.
    accumulate: Count = 1  # Number of batches per update.
    # whether the samples of an update are sorted by length, so that batches have less padding
    sort_lengths: bool = False
    save_epochs: Count
    save_seconds: Positive | None = None  # if set, also save a checkpoint every `save_seconds`
    keep_checkpoints: Count = 2

    injection: InjectionForm = "value"  # `value`: the released form; `residual`: the paper's form.
    injected_layers: Count | None = None  # The last n layers are injected. Default: all.
    bind_width: Count | None = None  # The bind network's inner width. Default: 4 * hidden size.
    bind_blocks: Count = 3
    lora_rank: Count = 16
    checkpoint_activations: bool = False
    # whether pretrain stores the outputs of the layers below the injected ones for each text
    remember_texts: bool = False
    seed: int = 0
    threads: Count | None = None

    @classmethod
    def from_file(cls, path: Path, phase: Phase) -> Self:
        """Read the file. Raises TrainError: when the file is missing, is not YAML, or has an
        invalid key.
        """
        return cls.of(read_document(path), phase, str(path))

    @classmethod
    def of(cls, document: Any, phase: Phase, where: str = "config") -> Self:
        """Add the default values of the phase to the keys of the file. Accepts the key `META`, the
        name in the released code, instead of `data`.

        Raises TrainError: when a key or a value is invalid; the message starts with `where`.
        """
        if not isinstance(document, dict):
            raise TrainError(f"{where}: must hold keys and values")
        values = {("data" if key == "META" else key): value for key, value in document.items()}
        config = validated(recipe(phase) | values, cls, where)
        if phase == "finetune" and config.start is None:
            raise TrainError(f"{where}: start: finetune requires the `out` of an earlier phase")
        if phase == "finetune" and config.remember_texts:
            raise TrainError(
                f"{where}: remember_texts: finetune changes the lower layers; set it to false"
            )
        return config


def recipe(phase: Phase) -> dict[str, Any]:
    """Return the released defaults of a phase under the YAML keys of this module."""
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
