"""Merging an adapter into a base, and rejecting an adapter of another base."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_ext.convert.adapter import Adapter, open_adapter
from model_ext.convert.llama import Llama
from model_ext.convert.llama_meta import open_meta
from model_ext.convert.merge import bind_config, check_pairing, injection_config, merge
from model_ext.weights.errors import ConvertError
from model_ext.weights.rotary import rotate_half_rows
from tests.model_ext.convert.conftest import TINY, Tensors, load

BASE = load(TINY / "llama" / "tiny" / "consolidated.00.pth")
FINETUNE = load(TINY / "adapter-finetune.pth")
Make = Callable[..., Path]


def pair(adapter: str, base: Path = TINY / "llama" / "tiny") -> tuple[Llama, Adapter]:
    llama = open_meta(base)
    return llama, open_adapter(TINY / adapter, llama.sizes)


def merged(adapter: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {lazy.name: lazy.load() for lazy in merge(*pair(adapter), dtype)}


@pytest.fixture(scope="module")
def finetune() -> dict[str, Tensor]:
    return merged("adapter-finetune.pth")


@pytest.mark.parametrize(
    ("released", "target"),
    [
        ("attention.{}wq", "self_attn.q_proj"),
        ("attention.{}wk", "self_attn.k_proj"),
        ("attention.{}wv", "self_attn.v_proj"),
        ("attention.{}wo", "self_attn.o_proj"),
        ("feed_forward.{}w1", "mlp.gate_proj"),
        ("feed_forward.{}w2", "mlp.down_proj"),
        ("feed_forward.{}w3", "mlp.up_proj"),
    ],
)
def test_lora_is_merged_in_float32(finetune: dict[str, Tensor], released: str, target: str) -> None:
    prefix = "layers.0." + released
    lora = "llama." + prefix.format("lora_")
    expected = BASE[prefix.format("") + ".weight"].float()
    expected = expected + FINETUNE[f"{lora}_l2.weight"] @ FINETUNE[f"{lora}_l1.weight"]
    if "wq" in released or "wk" in released:
        expected = rotate_half_rows(expected, 32)
    merged = finetune[f"model.layers.0.{target}.weight"]
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)


def test_every_map_of_a_finetuned_model_has_a_bias(finetune: dict[str, Tensor]) -> None:
    """The converter adds biases of zero, as transformers and vLLM need them in all projections."""
    for i in range(5):
        for name in ("self_attn.k_proj", "self_attn.v_proj"):
            assert not finetune[f"model.layers.{i}.{name}.bias"].any()
        for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"):
            assert finetune[f"model.layers.{i}.{name}.bias"].any()
    bias = rotate_half_rows(FINETUNE["llama.layers.3.attention.wq.bias"], 32)
    assert torch.equal(finetune["model.layers.3.self_attn.q_proj.bias"], bias)


def test_finetuned_norms_replace_the_base(finetune: dict[str, Tensor]) -> None:
    assert torch.equal(finetune["model.norm.weight"], FINETUNE["llama.norm.weight"])
    assert not torch.equal(FINETUNE["llama.norm.weight"], BASE["norm.weight"].float())


def test_value_correction_gives_the_base_matrix_back(finetune: dict[str, Tensor]) -> None:
    for j in range(4):
        value = finetune[f"model.layers.{j + 1}.self_attn.v_proj.weight"]
        lora = finetune["injection.v_lora_b"][j] @ finetune["injection.v_lora_a"][j]
        base = BASE[f"layers.{j + 1}.attention.wv.weight"].float()
        torch.testing.assert_close(value - lora, base, atol=1e-6, rtol=0)


def test_gates_and_queries_belong_to_the_last_layers(finetune: dict[str, Tensor]) -> None:
    """The 4 gates and queries are those of layers 1 to 4. The converter drops the gate of layer
    0.
    """
    assert finetune["injection.gate"].shape == (4, 4)
    for j in range(4):
        gate = FINETUNE[f"llama.layers.{j + 1}.attention.gate"].view(4).float()
        assert torch.equal(finetune["injection.gate"][j], gate)
    assert torch.equal(finetune["injection.query"], FINETUNE["prefix_query.weight"])
    _, adapter = pair("adapter-finetune.pth")
    config = injection_config(adapter)
    assert (config.first_layer, config.layers, config.v_correction_rank) == (1, 4, 16)


@pytest.mark.parametrize("file", ["adapter-pretrain.pth", "adapter-legacy-bridge.pth"])
def test_pretrained_models_have_neither_lora_nor_biases(file: str) -> None:
    names = merged(file).keys()
    assert not [name for name in names if name.startswith("model.") and name.endswith(".bias")]
    assert not [name for name in names if "lora" in name]


def test_legacy_bind_network_is_described() -> None:
    legacy = bind_config(pair("adapter-legacy-bridge.pth")[1])
    assert (legacy.norm, legacy.norm_eps, legacy.bias) == ("layernorm", 1e-5, True)
    stable = bind_config(pair("adapter-pretrain.pth")[1])
    assert (stable.norm, stable.norm_eps, stable.bias) == ("rmsnorm", 1e-6, False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_precision_is_lost_only_at_the_end(dtype: torch.dtype, finetune: dict[str, Tensor]) -> None:
    """The merge computes in float32 and rounds each tensor once. Gates stay in float32."""
    for name, tensor in merged("adapter-finetune.pth", dtype).items():
        if name == "injection.gate":
            assert tensor.dtype == torch.float32
        else:
            assert torch.equal(tensor, finetune[name].to(dtype)), name


@pytest.mark.parametrize("file", ["adapter-pretrain.pth", "adapter-legacy-bridge.pth"])
def test_another_base_is_refused(llama_folder: Make, file: str) -> None:
    """The converter rejects an adapter of 7B with the base 7B_chinese, whose shapes are equal."""

    def other(tensors: Tensors) -> None:
        tensors["layers.2.ffn_norm.weight"] = tensors["layers.2.ffn_norm.weight"] * 1.01

    llama, adapter = pair(file, llama_folder(other, "7B_chinese"))
    reason = r"adapter-\S+\.pth: .*another LLaMA than \S*7B_chinese: .*layers\.2\.post_attention"
    with pytest.raises(ConvertError, match=reason):
        check_pairing(llama, adapter)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_of_the_norms_is_no_other_base(llama_folder: Make, dtype: torch.dtype) -> None:
    def rounded(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(dtype)

    llama, adapter = pair("adapter-pretrain.pth", llama_folder(rounded))
    check_pairing(llama, adapter)


def test_a_finetuned_adapter_trained_its_norms(llama_folder: Make) -> None:
    """A finetuned adapter changes the norms, so the converter cannot check the base with them."""

    def other(tensors: Tensors) -> None:
        tensors["norm.weight"] = tensors["norm.weight"] * 2

    check_pairing(*pair("adapter-finetune.pth", llama_folder(other)))
