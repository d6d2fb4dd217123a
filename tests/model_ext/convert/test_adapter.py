"""The converter reads adapters of three generations and checkpoints, and rejects other files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model_ext.convert.adapter import (
    BIAS_ROWS,
    BIND_ROWS,
    INJECTION_ROWS,
    LEGACY_ROWS,
    LORA_ROWS,
    NORM_ROWS,
    open_adapter,
)
from model_ext.convert.llama import LLAMA_ROWS
from model_ext.convert.llama_meta import open_meta
from model_ext.weights.errors import ConvertError
from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.rotary import rotate_half_rows
from model_ext.weights.table import expand
from tests.model_ext.convert.conftest import TINY, Tensors, load

LAYOUT = Path(__file__).parents[2] / "fixtures" / "layout"
LLAMA = open_meta(TINY / "llama" / "tiny").sizes
RELEASED = {  # sizes of LLaMA-7B and ImageBind-huge
    **{"C": 4096, "F": 11008, "H": 32, "K": 4096, "L": 32, "Q": 4096, "V": 32000},
    **{"D": 1024, "J": 3, "W": 16384, "q": 32, "r": 16},
}
TABLES = {
    "llama_7B": LLAMA_ROWS,
    "adapter_pretrain": BIND_ROWS + INJECTION_ROWS + NORM_ROWS,
    "adapter_finetune": BIND_ROWS + INJECTION_ROWS + NORM_ROWS + BIAS_ROWS + LORA_ROWS,
    "adapter_finetune_legacy_bridge": (
        BIND_ROWS + INJECTION_ROWS + NORM_ROWS + BIAS_ROWS + LORA_ROWS + LEGACY_ROWS
    ),
}
Make = Callable[..., Path]


@pytest.mark.parametrize("file", TABLES)
def test_tables_are_the_released_layouts(file: str) -> None:
    """The converter's tables have all names and shapes of the tensors in the released files."""
    released = json.loads((LAYOUT / f"layout.{file}.json").read_text())["layout"]
    table = expand(TABLES[file], RELEASED)
    assert {name: list(expected.shape) for name, expected in table.items()} == {
        name: entry["shape"] for name, entry in released.items()
    }
    targets = [expected.target for expected in table.values()]
    assert len(set(targets)) == len(targets)


@pytest.mark.parametrize(
    ("file", "stage", "legacy", "rank"),
    [
        ("adapter-finetune.pth", "finetune", False, 16),
        ("adapter-pretrain.pth", "pretrain", False, 0),
        ("adapter-legacy-bridge.pth", "pretrain", True, 0),
    ],
)
def test_generations_are_recognised(file: str, stage: str, legacy: bool, rank: int) -> None:
    adapter = open_adapter(TINY / file, LLAMA)
    assert (adapter.stage, adapter.legacy, adapter.sizes["r"]) == (stage, legacy, rank)
    assert (adapter.sizes["q"], adapter.sizes["D"], adapter.sizes["W"]) == (4, 40, 512)


def test_a_finetuned_adapter_may_have_the_legacy_bind_network(adapter_file: Make) -> None:
    """The converter reads a finetuned adapter with the bind network of the generation 7B-beta.

    The test builds this adapter, because no fixture file has this combination.
    """
    legacy = load(TINY / "adapter-legacy-bridge.pth")
    biases = {name: value for name, value in legacy.items() if name.startswith("image_bind_")}
    adapter = open_adapter(adapter_file(lambda tensors: tensors.update(biases)), LLAMA)
    assert (adapter.stage, adapter.legacy) == ("finetune", True)
    assert adapter.tensors["bind.blocks.2.down_proj.bias"].shape == (128,)
    assert adapter.tensors["model.layers.0.mlp.up_proj.lora_b"].shape == (352, 16)


def test_rotary_rows_are_reordered_and_no_others() -> None:
    adapter = open_adapter(TINY / "adapter-finetune.pth", LLAMA)
    stored = load(TINY / "adapter-finetune.pth")
    layer = "llama.layers.2.attention."
    target = "model.layers.2.self_attn."
    moved = {
        "wq.bias": "q_proj.bias",
        "lora_wq_l2.weight": "q_proj.lora_b",
        "lora_wk_l2.weight": "k_proj.lora_b",
    }
    unmoved = {
        "wo.bias": "o_proj.bias",
        "lora_wq_l1.weight": "q_proj.lora_a",
        "lora_wk_l1.weight": "k_proj.lora_a",
        "lora_wv_l2.weight": "v_proj.lora_b",
        "lora_wo_l2.weight": "o_proj.lora_b",
    }
    for source, name in moved.items():
        released = stored[layer + source]
        assert torch.equal(adapter.tensors[target + name].read(), rotate_half_rows(released, 32))
        assert not torch.equal(adapter.tensors[target + name].read(), released)
    for source, name in unmoved.items():
        assert torch.equal(adapter.tensors[target + name].read(), stored[layer + source])


@pytest.mark.parametrize("file", ["adapter-finetune.pth", "adapter-legacy-bridge.pth"])
def test_raw_training_checkpoint_gives_the_same(adapter_file: Make, file: str) -> None:
    """A training checkpoint, which has older names and more tensors, gives the same adapter."""

    def raw(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.replace("llama", "llma")] = tensors.pop(name)
        for name, tensor in load(TINY / "llama" / "tiny" / "consolidated.00.pth").items():
            if "norm" not in name:
                tensors[f"llma.{name}"] = tensor
        tensors["image_bind.modality_trunks.vision.blocks.0.norm_1.weight"] = torch.zeros(3)
        tensors["prefix_projector_norm.weight"] = torch.zeros(3)
        tensors["prefix_projector_norm.bias"] = torch.zeros(3)

    one, other = open_adapter(adapter_file(raw, file), LLAMA), open_adapter(TINY / file, LLAMA)
    assert one.sizes == other.sizes
    assert one.tensors.keys() == other.tensors.keys()
    for name, lazy in one.tensors.items():
        assert torch.equal(lazy.read(), other.tensors[name].read()), name


@pytest.mark.parametrize("name", sorted(load(TINY / "adapter-finetune.pth"))[::9])
def test_missing_tensor_is_named(adapter_file: Make, name: str) -> None:
    """The converter rejects an adapter that lacks a tensor. The error names the tensor."""
    path = adapter_file(lambda tensors: tensors.pop(name))
    with pytest.raises(ConvertError, match=rf"adapter\.pth: missing {name}"):
        open_adapter(path, LLAMA)


@pytest.mark.parametrize(
    "name",
    [
        "image_bind_f4_1.weight",
        "llama.layers.0.attention.wk.bias",
        "llama.layers.5.attention.gate",
        "image_bind_norm_4.weight",
        "head.weight",
    ],
)
def test_an_unknown_tensor_is_named(adapter_file: Make, name: str) -> None:
    path = adapter_file(lambda tensors: tensors.update({name: torch.zeros(4)}))
    with pytest.raises(ConvertError, match=rf"adapter\.pth: has tensors that the .*: {name}$"):
        open_adapter(path, LLAMA)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image_bind_f2_2.weight", (128, 511)),
        ("llama.layers.4.attention.gate", (1, 8, 1, 1)),
        ("llama.layers.1.attention.lora_wv_l1.weight", (8, 128)),
        ("prefix_query.weight", (4, 64)),
        ("llama.norm.weight", (64,)),
    ],
)
def test_wrong_width_is_named(adapter_file: Make, name: str, shape: tuple[int, ...]) -> None:
    path = adapter_file(lambda tensors: tensors.update({name: torch.zeros(shape)}))
    with pytest.raises(ConvertError, match=rf"adapter\.pth: {name} has shape \({shape[0]},"):
        open_adapter(path, LLAMA)


def test_adapter_of_a_wider_llama_is_refused() -> None:
    sizes: dict[str, Any] = {name: getattr(LLAMA, name) for name in LlamaSizes.__slots__}
    with pytest.raises(ConvertError, match=r"image_bind_proj\.weight has shape \(128, 40\)"):
        open_adapter(TINY / "adapter-finetune.pth", LlamaSizes(**{**sizes, "hidden_size": 256}))


def test_more_queries_than_layers_are_refused(adapter_file: Make) -> None:
    change = {"prefix_query.weight": torch.zeros(6, 128)}
    path = adapter_file(lambda tensors: tensors.update(change))
    message = r"prefix_query\.weight has 6 rows for a LLaMA of 5 layers"
    with pytest.raises(ConvertError, match=message):
        open_adapter(path, LLAMA)


def test_both_spellings_of_a_name_are_refused(adapter_file: Make) -> None:
    change = {"llma.norm.weight": torch.zeros(128)}
    path = adapter_file(lambda tensors: tensors.update(change))
    with pytest.raises(ConvertError, match=r"llama\.norm\.weight occurs in two spellings"):
        open_adapter(path, LLAMA)


def test_another_file_is_not_taken_for_an_adapter() -> None:
    with pytest.raises(ConvertError, match=r"missing .*; is it an ImageBind-LLM adapter\?"):
        open_adapter(TINY / "imagebind_w3D.pth", LLAMA)
