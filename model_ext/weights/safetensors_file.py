"""Open a safetensors file: its tensors are named and measured now, and read one by one later."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    tensors = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                if part.get_dtype() not in DTYPES:
                    raise ConvertError(f"{path}: {name} holds {part.get_dtype()}")
                shape, dtype = tuple(part.get_shape()), DTYPES[part.get_dtype()]
                tensors[name] = LazyTensor(name, shape, dtype, partial(_read, path, name))
    except SafetensorError as error:
        raise ConvertError(f"{path}: not a safetensors file ({error})") from None
    return tensors


def open_shards(paths: Iterable[Path]) -> dict[str, LazyTensor]:
    """The tensors of all files. One that two of them hold is an error."""
    found: dict[str, LazyTensor] = {}
    for path in paths:
        tensors = open_safetensors(path)
        if twice := found.keys() & tensors.keys():
            raise ConvertError(f"{path}: {min(twice)} is in another file too")
        found |= tensors
    return found


def _read(path: Path, name: str) -> torch.Tensor:
    """Opened anew for each tensor: an open file keeps all that was read in memory."""
    with safe_open(path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor.clone()
