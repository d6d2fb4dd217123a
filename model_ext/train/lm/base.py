"""Put a base LLaMA, and the weights of an earlier phase, into the module.

Reads Hugging Face's and Meta's layout through the converter. Strict: what an adapter file holds
must be what the module has.
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

ADAPTER_FILE = "adapter.safetensors"  # what a finished run leaves behind: its weights,
SETTINGS_FILE = "adapter.json"  # and what is not in their shapes


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
    """A module with the base's weights in `dtype`; bind network and injection are fresh."""
    model = ConditionedLlama(llama.sizes, bind, first_layer, rank, positions, form)
    own = dict(model.named_parameters())
    for name, lazy in llama.tensors.items():
        tensor = lazy.read().to(dtype)
        if own[name].shape != tensor.shape:
            raise TrainError(f"{llama.folder}: {name} is {tuple(tensor.shape)}")
        own[name].data = tensor
    return model


def load_adapter(model: ConditionedLlama, path: Path) -> None:
    """Take over trained tensors by name. A pretrain file has no LoRA: those stay fresh."""
    if not path.is_file():
        raise TrainError(f"{path}: no such file; give the folder of an earlier phase as `start`")
    own = dict(model.named_parameters())
    for name, tensor in load_file(path).items():
        if name not in own:
            raise TrainError(f"{path}: {name} does not belong to this model")
        if own[name].shape != tensor.shape:
            raise TrainError(
                f"{path}: {name} is {tuple(tensor.shape)}, configured {tuple(own[name].shape)}"
            )
        own[name].data = tensor.to(own[name].dtype)
