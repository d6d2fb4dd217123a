"""Check that a model's folder has exactly the tensors that vLLM's model loads, by name and shape.

The model is built without memory (on torch's meta device), and its loader receives the folder's
tensors. The check reports the errors that loading would report. It takes seconds for a model of any
size, because it reads no values.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import (
    destroy_distributed_environment,
    destroy_model_parallel,
    ensure_model_parallel_initialized,
    init_distributed_environment,
)
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

from model_ext.engine.adapter import adapt
from model_ext.weights.errors import ConvertError
from model_ext.weights.safetensors_file import open_shards

SMALLEST: dict[str, Any] = {
    # any dtype is suitable here, because vLLM converts weights without a warning
    "dtype": "float32",
    # The following settings determine only the sizes of the engine's buffers.
    "max_model_len": 64,
    "max_num_seqs": 1,
    "kv_cache_memory_bytes": 1 << 24,
    "enforce_eager": True,
    "skip_tokenizer_init": True,
}


class WeightsError(ValueError):
    """Raised when the folder's tensors are not those of the model. The message names the
    tensors.
    """


def check_weights(folder: Path) -> int:
    """Check the folder, and return its number of tensors.

    Raises WeightsError: when vLLM's model cannot load a tensor of the folder, or when the folder
    lacks a tensor.
    """
    config = EngineArgs(model=str(folder), **SMALLEST).create_engine_config()
    adapt(config)
    tensors = shapes(folder)
    with set_current_vllm_config(config), one_rank(), on_meta(config):
        model = initialize_model(vllm_config=config)
        _compare(expected_names(model), set(tensors))
        for name, tensor in tensors.items():
            try:
                model.load_weights([(name, tensor)])
            except (AssertionError, RuntimeError, ValueError) as error:
                raise WeightsError(
                    f"{name} has shape {tuple(tensor.shape)}, which does not fit: {error}"
                ) from None
    return len(tensors)


def shapes(folder: Path) -> dict[str, Tensor]:
    """Yield the name, and a tensor without values, of each tensor in the folder."""
    try:
        tensors = open_shards(sorted(folder.glob("*.safetensors")))
    except ConvertError as error:
        raise WeightsError(str(error)) from None
    return {
        name: torch.empty(lazy.shape, dtype=lazy.dtype, device="meta")
        for name, lazy in tensors.items()
    }


def expected_names(model: nn.Module) -> set[str]:
    """Return the tensor names that the folder must have. vLLM's model joins some of these
    tensors.
    """
    packed: Mapping[str, list[str]] = cast(Any, model).packed_modules_mapping
    names: set[str] = set()
    for name, _ in model.named_parameters():
        for whole, parts in packed.items():
            if f".{whole}." in name:
                names.update(name.replace(f".{whole}.", f".{part}.") for part in parts)
                break
        else:
            names.add(name)
    return names


def _compare(expected: set[str], names: set[str]) -> None:
    if missing := sorted(expected - names):
        raise WeightsError(f"missing {_some(missing)}")
    if unused := sorted(names - expected):
        raise WeightsError(f"has tensors that the model does not use: {_some(unused)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def one_rank() -> Iterator[None]:
    """Create the process group of one process, which vLLM's layers require."""
    with TemporaryDirectory() as folder:
        init_distributed_environment(1, 0, f"file://{folder}/group", 0, "gloo")
        try:
            ensure_model_parallel_initialized(1, 1)
            yield
        finally:
            destroy_model_parallel()
            destroy_distributed_environment()


@contextmanager
def on_meta(config: VllmConfig) -> Iterator[None]:
    """In the `with` block, torch creates tensors in the model's dtype and without memory."""
    with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
        yield
