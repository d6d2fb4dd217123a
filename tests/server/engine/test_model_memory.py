"""Estimates of the engine's memory, from safetensors headers and from configurations without
weights.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cache_index.exact import resident_bytes
from server.engine.flags import parse
from server.engine.memory_budget import CUDA_CONTEXT, Card, Share, plan
from server.engine.model_memory import engine_needs, weight_bytes
from server.settings import Settings

GiB = 1 << 30
CARD = 80 * GiB
OPERATION = Path(__file__).parents[3] / "docs" / "operation.md"
SEVEN = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "injection": {"form": "value", "first_layer": 2, "layers": 30},
}
THIRTEEN = {
    **SEVEN,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "injection": {"form": "value", "first_layer": 10, "layers": 30},
}


def needs(folder: Path, config: dict[str, object], *flags: str):  # type: ignore[no-untyped-def]
    (folder / "config.json").write_text(json.dumps(config))
    args = parse(Settings(model=folder, vllm_args=flags))
    if "--kv-cache-memory-bytes" not in " ".join(flags):
        args.kv_cache_memory_bytes = None  # remove the value that vLLM's parser sets for a CPU
    if not any(flag.startswith("--dtype") for flag in flags):
        args.dtype = "auto"
    return engine_needs(folder, args, CARD)


@pytest.mark.parametrize(
    ("config", "weights", "kv_per_token"),
    [(SEVEN, 12.55, 512 << 10), (THIRTEEN, 24.24, 800 << 10)],
)
def test_known_models(
    config: dict[str, object], weights: float, kv_per_token: int, tmp_path: Path
) -> None:
    sizes = needs(tmp_path, config)
    assert sizes.weights / GiB == pytest.approx(weights, abs=0.02)
    assert (sizes.kv_per_token, sizes.max_model_len) == (kv_per_token, 2048)
    assert 0.9 * GiB < sizes.maps < 2 * GiB
    assert 0.5 * GiB < sizes.activations < 2 * GiB


def test_weights_are_read_from_the_headers(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(10, 3), "b": torch.zeros(7, dtype=torch.bfloat16)}
    save_file({**tensors, "c": torch.zeros(5, dtype=torch.int8)}, tmp_path / "m.safetensors")
    assert weight_bytes(tmp_path, 2) == 2 * 37 + 5
    assert weight_bytes(tmp_path, 4) == 4 * 37 + 5
    assert needs(tmp_path, SEVEN, "--dtype=float32").weights == 4 * 37 + 5


def test_a_file_that_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        weight_bytes(tmp_path, 2)


def test_flags_change_the_needs(tmp_path: Path) -> None:
    plain = needs(tmp_path, SEVEN)
    assert needs(tmp_path, SEVEN, "--max-model-len=512").min_kv_cache == plain.min_kv_cache // 4
    assert needs(tmp_path, SEVEN, "--kv-cache-dtype=fp8").kv_per_token == plain.kv_per_token // 2
    assert needs(tmp_path, SEVEN, "--max-model-len=-1").max_model_len == 1
    small = needs(tmp_path, SEVEN, "--max-num-batched-tokens=2048", "--max-num-seqs=256")
    assert 3 * small.activations < plain.activations
    two = needs(tmp_path, SEVEN, "--tensor-parallel-size=2")
    assert (two.weights, two.maps) == (plain.weights // 2, 0)
    layers = json.dumps({"bindserve": {"arrival": "layers"}})
    assert needs(tmp_path, SEVEN, f"--additional-config={layers}").maps == 0
    assert needs(tmp_path, SEVEN, "--kv-cache-memory-bytes=1000").min_kv_cache == 1000


def test_grouped_query_attention_has_narrow_maps(tmp_path: Path) -> None:
    grouped = needs(tmp_path, {**SEVEN, "num_key_value_heads": 8})
    plain = needs(tmp_path, SEVEN)
    assert (grouped.kv_per_token, grouped.maps) == (plain.kv_per_token // 4, plain.maps // 2)


def test_a_draft_models_weights_count(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.mkdir()
    save_file({"a": torch.zeros(100)}, draft / "model.safetensors")
    flag = "--speculative-config=" + json.dumps(
        {"model": str(draft), "num_speculative_tokens": 2, "method": "draft_model"}
    )
    assert needs(tmp_path, SEVEN, flag).draft == 200
    ngram = json.dumps({"method": "ngram", "num_speculative_tokens": 2})
    assert needs(tmp_path, SEVEN, f"--speculative-config={ngram}").draft == 0


def test_the_table_in_the_documentation_is_printed_by_the_code(tmp_path: Path) -> None:
    model = {**SEVEN, "injection": {"form": "value", "first_layer": 0, "layers": 32}}
    total = int(79.1 * GiB)
    (tmp_path / "config.json").write_text(json.dumps(model))
    args = parse(Settings(model=tmp_path, vllm_args=("--dtype=bfloat16",)))
    args.kv_cache_memory_bytes = None  # remove the value that vLLM's parser sets for a CPU
    shares = (
        Share("encoders", int(3.4 * GiB)),
        Share("retrieval cache", resident_bytes(1_000_000, 1024) + CUDA_CONTEXT),
    )
    card = Card("a card of 80 GB", total, total)
    table = str(plan(card, engine_needs(tmp_path, args, total), shares))
    assert table in OPERATION.read_text(), table
