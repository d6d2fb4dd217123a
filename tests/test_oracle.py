"""On converted models, the oracle reproduces all released logits and greedy ids.

This tests the conversion of the weights, and the oracle (tests/oracle.py) that other tests use.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_ext.bind import BindNetwork
from model_ext.config import BindServeConfig
from model_ext.inject import ValueLayer, value_deltas
from tests.oracle import Oracle
from tests.rounding import between, logits_terms

FIXTURES = Path(__file__).parent / "fixtures"
INDEX: dict[str, Any] = json.loads((FIXTURES / "golden" / "index.json").read_text())["logits"]
LOGITS = load_file(FIXTURES / "golden" / "logits.safetensors")
VISUAL = load_file(FIXTURES / "golden" / "visual.safetensors")
CONFIG: dict[str, Any] = {
    **{"hidden_size": 128, "intermediate_size": 352, "head_dim": 32, "num_hidden_layers": 5},
    **{"vocab_size": 512},
    "bind": {"in_features": 40, "hidden_size": 128, "intermediate_size": 512, "blocks": 3},
}
CACHED = "size10_t20_w0.5/enhanced"


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Compare logits with recorded ones. The allowed error is the same for all three models,
    because their layers have equal sizes.
    """
    bound = between(logits_terms(CONFIG, len(expected))) * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, atol=bound, rtol=0)


@pytest.fixture(scope="module")
def oracles(tiny_models: dict[str, Path]) -> dict[str, Oracle]:
    return {name: Oracle.from_folder(tiny_models[name]) for name in INDEX["checkpoints"]}


def ids(prompt: str) -> list[int]:
    number = int(prompt.removeprefix("prompt"))
    return list(INDEX["prompt_ids"][number])


@pytest.mark.parametrize("key", [key for key in LOGITS if key.endswith("/logits_s8")])
def test_logits_at_all_positions(key: str, oracles: dict[str, Oracle]) -> None:
    checkpoint, combo, prompt, _ = key.split("/")
    logits = oracles[checkpoint].logits(ids(prompt), VISUAL[f"{combo}/mixed"][0])
    assert_close(logits[:, ::8], LOGITS[key])
    assert_close(logits.logsumexp(-1), LOGITS[key.replace("logits_s8", "lse")])
    assert torch.equal(logits.argmax(-1), LOGITS[key.replace("logits_s8", "argmax")].long())
    whole = LOGITS.get(key.replace("logits_s8", "logits"))
    if whole is not None:
        assert_close(logits, whole)


@pytest.mark.parametrize("key", [key for key in LOGITS if key.endswith("/greedy_ids")])
def test_greedy_ids(key: str, oracles: dict[str, Oracle]) -> None:
    checkpoint, combo, prompt, *cache, _ = key.split("/")
    embedding = VISUAL["/".join([combo, *cache, CACHED]) if cache else f"{combo}/mixed"][0]
    written, last = oracles[checkpoint].greedy(ids(prompt), embedding, steps=32)
    assert written == LOGITS[key].tolist()
    folder = key.removesuffix("/greedy_ids")
    if cache:
        first = oracles[checkpoint].logits(ids(prompt), embedding)[-1]
        assert_close(first, LOGITS[f"{folder}/first_logits"])
    else:
        assert_close(last, LOGITS[f"{folder}/greedy_last_logits"])


def test_every_golden_is_used() -> None:
    """The file of recorded logits contains 36 prompts, 12 greedy runs and 2 runs with a cache."""
    kinds = [key.rsplit("/", 1)[1] for key in LOGITS if not key.startswith("top_p/")]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        **dict.fromkeys(("logits_s8", "lse", "argmax"), 36),
        **{"logits": 3, "greedy_ids": 14, "greedy_last_logits": 12, "first_logits": 2},
    }


@pytest.mark.parametrize("checkpoint", INDEX["checkpoints"])
def test_precomputed_terms_give_the_same_logits(
    checkpoint: str, oracles: dict[str, Oracle]
) -> None:
    """Adding a precomputed vector in each layer, as the server does, equals an injection into the
    heads.
    """
    oracle = oracles[checkpoint]
    embedding = VISUAL["image_audio/mixed"][0]
    deltas = value_deltas(bind_network(oracle)(embedding[None]), value_layers(oracle))[0]
    expected = oracle.logits(ids("prompt1"), embedding)
    assert_close(oracle.logits(ids("prompt1"), deltas=deltas), expected)
    without = oracle.logits(ids("prompt1"))
    assert (without - expected).abs().max() > 0.1  # without the embedding, the logits are different


def bind_network(oracle: Oracle) -> BindNetwork:
    network = BindNetwork(BindServeConfig.from_hf(oracle.config).bind)
    weights = {name: w for name, w in oracle.weights.items() if name.startswith("bind.")}
    network.load_state_dict(
        {name.removeprefix("bind."): weight for name, weight in weights.items()}
    )
    return network.requires_grad_(False)


def value_layers(oracle: Oracle) -> list[ValueLayer]:
    injection = BindServeConfig.from_hf(oracle.config).injection
    weights = oracle.weights

    def part(name: str, j: int) -> Tensor | None:
        return weights[name][j] if injection.v_correction_rank else None

    return [
        ValueLayer(
            query=weights["injection.query"][j],
            gate=weights["injection.gate"][j],
            v_proj=weights[f"model.layers.{injection.first_layer + j}.self_attn.v_proj.weight"],
            o_proj=weights[f"model.layers.{injection.first_layer + j}.self_attn.o_proj.weight"],
            v_lora_a=part("injection.v_lora_a", j),
            v_lora_b=part("injection.v_lora_b", j),
        )
        for j in range(injection.layers)
    ]
