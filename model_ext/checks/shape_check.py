"""Does the folder hold exactly the tensors that vLLM's model wants, by name and shape?

The model is built without memory (on torch's meta device) and takes the folder's tensors through
its own loader, so this knows what loading knows, in seconds and at any size. Values are not read.
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
    "dtype": "float32",  # takes any other without a warning
    "max_model_len": 64,  # and the rest sizes the engine's buffers, not the weights
    "max_num_seqs": 1,
    "kv_cache_memory_bytes": 1 << 24,
    "enforce_eager": True,
    "skip_tokenizer_init": True,
}


class WeightsError(ValueError):
    """The folder's tensors are not the model's; the message names them."""


def check_weights(folder: Path) -> int:
    """How many tensors there are, if vLLM's model can take them all and lacks none."""
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
    """The folder's tensors without their values."""
    try:
        found = open_shards(sorted(folder.glob("*.safetensors")))
    except ConvertError as error:
        raise WeightsError(str(error)) from None
    return {
        name: torch.empty(lazy.shape, dtype=lazy.dtype, device="meta")
        for name, lazy in found.items()
    }


def expected_names(model: nn.Module) -> set[str]:
    """As a folder spells them: vLLM keeps several of its matrices in one."""
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


def _compare(expected: set[str], found: set[str]) -> None:
    if missing := sorted(expected - found):
        raise WeightsError(f"missing {_some(missing)}")
    if left_over := sorted(found - expected):
        raise WeightsError(f"left over, since the model does not use it: {_some(left_over)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def one_rank() -> Iterator[None]:
    """vLLM's layers ask for their process group, even when there is one process."""
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
    with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
        yield
