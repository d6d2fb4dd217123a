"""Open safetensors files: read names, shapes and dtypes first, and tensors when they are needed."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor

# Point-Bind's batch normalisation has counters in I64, which conversion does not use.
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Open a file.

    Raises ConvertError: when it is damaged or a dtype is not supported.
    """
    tensors = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                if part.get_dtype() not in DTYPES:
                    raise ConvertError(
                        f"{path}: {name} holds {part.get_dtype()}; supported: {', '.join(DTYPES)}"
                    )
                shape, dtype = tuple(part.get_shape()), DTYPES[part.get_dtype()]
                tensors[name] = LazyTensor(name, shape, dtype, partial(_read, path, name))
    except SafetensorError as error:
        raise ConvertError(f"{path}: not a safetensors file ({error})") from None
    return tensors


def open_shards(paths: Iterable[Path]) -> dict[str, LazyTensor]:
    """Open several files. Raises ConvertError: when two of them hold the same tensor."""
    shards: dict[str, LazyTensor] = {}
    for path in paths:
        tensors = open_safetensors(path)
        if duplicates := shards.keys() & tensors.keys():
            raise ConvertError(f"{path}: {min(duplicates)} is in another file too")
        shards |= tensors
    return shards


def _read(path: Path, name: str) -> torch.Tensor:
    """Open the file again for each tensor, because an open file keeps all tensors that were read
    from it in memory.
    """
    with safe_open(path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor.clone()
