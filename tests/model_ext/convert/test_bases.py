"""Converted base models of each family compute the same logits as `transformers`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from model_ext.convert.model import Options, convert
from model_ext.convert.sources import Sources
from model_ext.weights.rotary import rotate_half_rows
from tests.bases import FAMILIES, LLAMA3_ROPE, write_sources
from tests.oracle import Oracle
from tests.rounding import between, logits_terms

FLOAT32 = Options(dtype=torch.float32, golden=False, progress=False)
IDS = torch.randint(3, 512, (48,), generator=torch.Generator().manual_seed(2)).tolist()
EMBEDDING = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def sources(folder: Path, family: str, stage: str, tiny_models: dict[str, Path]) -> Sources:
    return write_sources(folder, family, stage, tiny_models["finetune"] / "tokenizer.json")


def test_without_its_adapter_it_is_the_base(
    family: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Without an embedding, a converted model computes the logits of its base, for each family."""
    convert(sources(tmp_path, family, "pretrain", tiny_models), tmp_path / "out", FLOAT32)
    oracle = Oracle.from_folder(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    with torch.inference_mode():
        expected = base(torch.tensor([IDS])).logits[0]
    assert expected.std() > 0.3
    bound = between(logits_terms(oracle.config, len(IDS))) * expected.abs().max().item()
    torch.testing.assert_close(oracle.logits(IDS), expected, atol=bound, rtol=0)


def test_low_rank_changes_fit_grouped_heads(
    family: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """The converter reorders the rows of low-rank changes for the base's rotary embeddings."""
    made = sources(tmp_path, family, "finetune", tiny_models)
    convert(made, tmp_path / "out", FLOAT32)
    (file,) = (tmp_path / "out").glob("*.safetensors")
    converted, base = load_file(file), load_file(tmp_path / "base" / "model.safetensors")
    adapter = torch.load(made.adapter, weights_only=True)["model"]
    head_dim = json.loads((tmp_path / "out" / "config.json").read_text())["head_dim"]
    for released, target in (("wk", "k_proj"), ("wv", "v_proj"), ("wq", "q_proj")):
        lora = f"llama.layers.1.attention.lora_{released}"
        second = adapter[f"{lora}_l2.weight"]
        if released != "wv":
            second = rotate_half_rows(second, head_dim)
        name = f"model.layers.1.self_attn.{target}.weight"
        expected = base[name] + second @ adapter[f"{lora}_l1.weight"]
        torch.testing.assert_close(converted[name], expected, atol=1e-5, rtol=0)
    assert (
        converted["injection.v_lora_b"].shape[1]
        == converted["model.layers.0.self_attn.v_proj.weight"].shape[0]
    )
    conditioned = Oracle.from_folder(tmp_path / "out")
    change = conditioned.logits(IDS, EMBEDDING) - conditioned.logits(IDS)
    assert change.abs().max() > 0.1


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama3", {"rope_parameters": LLAMA3_ROPE, "num_key_value_heads": 2}),
        ("smollm2", {"tie_word_embeddings": True, "num_key_value_heads": 1, "head_dim": 32}),
        ("mistral", {"sliding_window": 8}),
        ("mistral_nemo", {"head_dim": 64}),
    ],
)
def test_what_config_json_says(
    family: str, expected: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    convert(sources(tmp_path, family, "pretrain", tiny_models), tmp_path / "out", FLOAT32)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: config[key] for key in expected} == expected
    assert ("sliding_window" in config) == (family == "mistral")
    (file,) = (tmp_path / "out").glob("*.safetensors")
    assert ("lm_head.weight" in load_file(file)) == (family != "smollm2")


def test_an_older_config_json_says_the_same(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """The converter reads an older config.json: `rope_theta` and `rope_scaling`, no head size."""
    made = sources(tmp_path, "llama3", "pretrain", tiny_models)
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text())
    scaling = {key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"}
    for key in ("rope_parameters", "head_dim"):
        del config[key]
    path.write_text(json.dumps({**config, "rope_theta": 500000.0, "rope_scaling": scaling}))
    convert(made, tmp_path / "out", FLOAT32)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_parameters"] == LLAMA3_ROPE
    assert config["head_dim"] == 32
