"""Open a torch checkpoint (.pth) without running code that it contains.

The server does not use this module, because the server reads only safetensors files, which are not
pickles.
"""

import argparse
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model_ext.convert.mapped import read_mapped
from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor

# Training checkpoints contain their command-line options as a Namespace, a class that cannot run
# code.
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]


def open_pickle(path: Path) -> dict[str, LazyTensor]:
    """Open the tensors of a checkpoint of the form {name: tensor} or {"model": {name: tensor}}.

    Raises ConvertError: when the file is damaged or contains anything but dense tensors.
    """
    # Checkpoints from before torch 1.6 are no zip files and cannot be memory-mapped, so they are
    # read into memory.
    mapped = zipfile.is_zipfile(path)
    content = _load(path, mapped)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise ConvertError(f"{path}: holds a {type(content).__name__}, not named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConvertError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.is_quantized:
            raise ConvertError(f"{path}: {name} is sparse or quantised; save it as a dense tensor")
    return {name: _lazy(name, tensor, mapped) for name, tensor in content.items()}


def _lazy(name: str, tensor: torch.Tensor, mapped: bool) -> LazyTensor:
    read = partial(read_mapped, tensor) if mapped else tensor.contiguous
    return LazyTensor(name, tuple(tensor.shape), tensor.dtype, read)


def _load(path: Path, mapped: bool) -> object:
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConvertError(
            f"{path}: rejected, because it contains objects that could run code when opened; "
            f"no code was run. ({_first_line(error)})"
        ) from None
    except Exception as error:  # a damaged archive raises many types of exceptions
        raise ConvertError(f"{path}: not a torch checkpoint ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
