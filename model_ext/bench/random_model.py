"""A LLaMA of given shapes with random weights, with and without injection: speed needs no training.

Both folders hold the same language model, so that their arms differ in the injection only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

EMBEDDING_DIM = 1024
CORRECTION_RANK = 16
BIND_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int


SMOLLM2_135M = Shape(576, 1536, 30, 9, 3, 49152)
TINY = Shape(128, 352, 4, 4, 2, 512)


def write(folder: Path, shape: Shape, seed: int = 0) -> tuple[Path, Path]:
    """Write `folder`/plain and `folder`/injected, float32, unless they are there. Returns both."""
    plain, injected = folder / "plain", folder / "injected"
    if not (injected / "config.json").exists():
        generator = torch.Generator().manual_seed(seed)
        llm = _language_model(shape, generator)
        _save(plain, _config(shape), llm)
        _save(injected, _injected_config(shape), llm | _injection(shape, generator))
    return plain, injected


def _save(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))  # last: marks completeness


def _config(shape: Shape) -> dict[str, Any]:
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        dtype="float32",
    )
    values: dict[str, Any] = config.to_dict()
    return values | {"architectures": ["LlamaForCausalLM"]}


def _injected_config(shape: Shape) -> dict[str, Any]:
    return _config(shape) | {
        "architectures": ["ImageBindLLMForCausalLM"],
        "imagebind": {"modalities": ["vision"], "embedding_dim": EMBEDDING_DIM},
        "bind": {
            "in_features": EMBEDDING_DIM,
            "hidden_size": shape.hidden,
            "intermediate_size": 4 * shape.hidden,
            "blocks": BIND_BLOCKS,
            "norm": "rmsnorm",
            "norm_eps": 1e-6,
        },
        "injection": {
            "form": "value",
            "first_layer": 0,
            "layers": shape.layers,
            "v_correction_rank": CORRECTION_RANK,
        },
        "cache": {},
        "provenance": {"stage": "finetune"},
    }


def _language_model(shape: Shape, generator: torch.Generator) -> dict[str, torch.Tensor]:
    c, wide = shape.hidden, shape.intermediate
    narrow = shape.kv_heads * c // shape.heads
    tensors = {
        "model.embed_tokens.weight": _random(generator, shape.vocabulary, c),
        "lm_head.weight": _random(generator, shape.vocabulary, c),
        "model.norm.weight": torch.ones(c),
    }
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        tensors |= {
            f"{layer}.self_attn.q_proj.weight": _random(generator, c, c),
            f"{layer}.self_attn.k_proj.weight": _random(generator, narrow, c),
            f"{layer}.self_attn.v_proj.weight": _random(generator, narrow, c),
            f"{layer}.self_attn.o_proj.weight": _random(generator, c, c),
            f"{layer}.mlp.gate_proj.weight": _random(generator, wide, c),
            f"{layer}.mlp.up_proj.weight": _random(generator, wide, c),
            f"{layer}.mlp.down_proj.weight": _random(generator, c, wide),
            f"{layer}.input_layernorm.weight": torch.ones(c),
            f"{layer}.post_attention_layernorm.weight": torch.ones(c),
        }
    return tensors


def _injection(shape: Shape, generator: torch.Generator) -> dict[str, torch.Tensor]:
    c, q = shape.hidden, shape.layers
    narrow = shape.kv_heads * c // shape.heads
    tensors = {
        "bind.proj.weight": _random(generator, c, EMBEDDING_DIM),
        "bind.proj.bias": torch.zeros(c),
        "injection.gate": _random(generator, q, shape.heads),
        "injection.query": _random(generator, q, c),
        "injection.v_lora_a": _random(generator, q, CORRECTION_RANK, c),
        "injection.v_lora_b": _random(generator, q, narrow, CORRECTION_RANK),
    }
    for j in range(BIND_BLOCKS):
        block = f"bind.blocks.{j}"
        tensors |= {
            f"{block}.norm.weight": torch.ones(c),
            f"{block}.gate_proj.weight": _random(generator, 4 * c, c),
            f"{block}.up_proj.weight": _random(generator, 4 * c, c),
            f"{block}.down_proj.weight": _random(generator, c, 4 * c),
        }
    return tensors


def _random(generator: torch.Generator, *shape: int) -> torch.Tensor:
    scale: float = shape[-1] ** -0.5
    return torch.randn(*shape, generator=generator) * scale
