"""Load a base LLaMA, and the weights of an earlier phase, into the training model (`model.py`).

Reads Hugging Face's and Meta's layouts through the converter. Each tensor of an adapter file must
belong to the training model.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from model_ext.config import BindConfig, InjectionForm
from model_ext.convert.llama import Llama
from model_ext.convert.llama_hf import open_hf
from model_ext.convert.llama_meta import open_meta
from model_ext.train.errors import TrainError
from model_ext.train.lm.model import ConditionedLlama

ADAPTER_FILE = "adapter.safetensors"  # The trained weights of a finished run.
SETTINGS_FILE = "adapter.json"  # The run's settings that tensor shapes do not show.


def open_base(folder: Path) -> Llama:
    return open_hf(folder) if (folder / "config.json").is_file() else open_meta(folder)


def build(
    llama: Llama,
    bind: BindConfig,
    first_layer: int,
    rank: int,
    positions: int,
    dtype: torch.dtype,
    form: InjectionForm = "value",
) -> ConditionedLlama:
    """Build a module with the base's weights in `dtype`, and a new bind network and injection.

    Raises TrainError: when a tensor of the base has another shape than the module's.
    """
    model = ConditionedLlama(llama.sizes, bind, first_layer, rank, positions, form)
    parameters = dict(model.named_parameters())
    for name, lazy in llama.tensors.items():
        tensor = lazy.read().to(dtype)
        if parameters[name].shape != tensor.shape:
            raise TrainError(
                f"{llama.folder}: {name} has shape {tuple(tensor.shape)}, "
                f"config.json implies {tuple(parameters[name].shape)}"
            )
        parameters[name].data = tensor
    return model


def load_adapter(model: ConditionedLlama, path: Path) -> None:
    """Copy trained tensors by name. A pretrain file contains no LoRA; the module's LoRA tensors
    then keep their values.

    Raises TrainError: when the file is missing, or a tensor's name or shape does not match.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such file; set `start` to the folder of an earlier phase")
    parameters = dict(model.named_parameters())
    for name, tensor in load_file(path).items():
        if name not in parameters:
            raise TrainError(f"{path}: the model has no tensor {name}")
        if parameters[name].shape != tensor.shape:
            raise TrainError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, "
                f"the configuration implies {tuple(parameters[name].shape)}"
            )
        parameters[name].data = tensor.to(parameters[name].dtype)
