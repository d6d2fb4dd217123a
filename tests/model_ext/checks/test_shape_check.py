"""`check_weights` reports the same wrong names and shapes as vLLM's loader."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_ext.checks.shape_check import WeightsError, check_weights

pytestmark = pytest.mark.engine  # The tests import vLLM, which takes seconds.

WEIGHTS = "model-00001-of-00001.safetensors"


@pytest.fixture
def changed(tiny_models: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a model folder and changes the tensors of the copy."""

    def make(change: Callable[[dict[str, Tensor]], object]) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_models["finetune"], folder)
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        return folder

    return make


@pytest.mark.parametrize("name", ["finetune", "pretrain", "legacy"])
def test_converted_models_fit(tiny_models: dict[str, Path], name: str) -> None:
    count = len(load_file(tiny_models[name] / WEIGHTS))
    assert check_weights(tiny_models[name]) == count > 50


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.self_attn.k_proj.weight",  # vLLM stores q, k and v as one matrix
        "model.layers.0.mlp.up_proj.bias",
        "injection.gate",
        "bind.blocks.1.norm.weight",
        "lm_head.weight",
    ],
)
def test_a_missing_tensor_is_named(changed: Callable[..., Path], name: str) -> None:
    with pytest.raises(WeightsError, match=f"^missing {name}$"):
        check_weights(changed(lambda tensors: tensors.pop(name)))


def test_a_left_over_tensor_is_named(changed: Callable[..., Path]) -> None:
    folder = changed(lambda tensors: tensors.update({"model.layers.5.x": torch.zeros(1)}))
    with pytest.raises(
        WeightsError, match=r"^has tensors that the model does not use: model\.layers\.5\.x$"
    ):
        check_weights(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.1.self_attn.v_proj.weight", (64, 128)),
        ("model.layers.1.mlp.down_proj.weight", (128, 351)),
        ("injection.v_lora_a", (4, 8, 128)),
        ("model.embed_tokens.weight", (511, 128)),
        ("bind.proj.bias", (1,)),
    ],
)
def test_a_wrong_shape_is_named(
    changed: Callable[..., Path], name: str, shape: tuple[int, ...]
) -> None:
    folder = changed(lambda tensors: tensors.update({name: torch.zeros(shape)}))
    with pytest.raises(WeightsError, match=rf"^{name} has shape \({shape[0]},"):
        check_weights(folder)


def test_a_damaged_file_is_named(changed: Callable[..., Path]) -> None:
    folder = changed(len)
    (folder / WEIGHTS).write_bytes(b"no")
    with pytest.raises(WeightsError, match=f"{WEIGHTS}: not a safetensors file"):
        check_weights(folder)


def test_a_tensor_in_two_files_is_named(changed: Callable[..., Path]) -> None:
    folder = changed(len)
    save_file({"lm_head.weight": torch.zeros(512, 128)}, folder / "model-00002.safetensors")
    with pytest.raises(WeightsError, match=r"lm_head\.weight is in another file too"):
        check_weights(folder)
