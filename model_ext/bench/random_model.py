"""Create a LLaMA with random weights, with and without the injection, to measure speed.

Both variants contain the same language model and differ in the injection only. The weights are
written to a folder, created on a device, or created by vLLM (`--load-format dummy`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig

EMBEDDING_DIM = 1024
CORRECTION_RANK = 16
BIND_BLOCKS = 3
BIND_WIDENING = 4  # The released bind network's inner width, divided by the hidden size.

Layout = dict[str, tuple[int, ...]]  # The name of a tensor -> the tensor's shape.


@dataclass(frozen=True, slots=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def kv_bytes(self) -> int:
        """Return the bytes of one token in a bfloat16 KV cache."""
        return 2 * 2 * self.layers * self.kv_heads * self.hidden // self.heads

    @property
    def parameters(self) -> int:
        """Return the number of weights of the language model."""
        return sum(torch.Size(shape).numel() for shape in language_model_layout(self).values())


SMOLLM2_135M = Shape(576, 1536, 30, 9, 3, 49152)
LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 32000)
TINY = Shape(128, 352, 4, 4, 2, 512)


def write(folder: Path, shape: Shape, seed: int = 0) -> tuple[Path, Path]:
    """Write the folders plain and injected in `folder`, with float32 weights. Existing folders are
    kept. Return both paths.
    """
    plain, injected = folder / "plain", folder / "injected"
    if not all((path / "model.safetensors").exists() for path in (plain, injected)):
        llm = random_weights(language_model_layout(shape), seed)
        for path, tensors in (
            (plain, llm),
            (injected, llm | random_weights(injection_layout(shape), seed + 1)),
        ):
            path.mkdir(parents=True, exist_ok=True)
            partial = path / "model.partial"
            save_file(tensors, partial, metadata={"format": "pt"})
            partial.rename(path / "model.safetensors")
    return write_configs(folder, shape)


def write_configs(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """Write only the config.json of both variants, for vLLM's dummy weights. Return both paths."""
    plain, injected = folder / "plain", folder / "injected"
    for path, config in ((plain, plain_config(shape)), (injected, injected_config(shape))):
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(config, indent=2))
    return plain, injected


def random_weights(
    layout: Mapping[str, tuple[int, ...]],
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Create weights that keep the size of activations about constant: norms 1, biases 0, others
    random.
    """
    generator = torch.Generator(device).manual_seed(seed)
    return {name: _random(name, shape, generator, dtype) for name, shape in layout.items()}


def _random(
    name: str, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype, device=generator.device)
    if name.endswith(("norm.weight", "layernorm.weight")):
        return tensor.fill_(1)
    if name.endswith(".bias"):
        return tensor.zero_()
    return tensor.normal_(0, shape[-1] ** -0.5, generator=generator)


def plain_config(shape: Shape) -> dict[str, Any]:
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


def injected_config(shape: Shape, modalities: tuple[str, ...] = ("vision",)) -> dict[str, Any]:
    return plain_config(shape) | {
        "architectures": ["ImageBindLLMForCausalLM"],
        "imagebind": {"modalities": list(modalities), "embedding_dim": EMBEDDING_DIM},
        "bind": {
            "in_features": EMBEDDING_DIM,
            "hidden_size": shape.hidden,
            "intermediate_size": BIND_WIDENING * shape.hidden,
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


def language_model_layout(shape: Shape) -> Layout:
    c, wide = shape.hidden, shape.intermediate
    narrow = shape.kv_heads * c // shape.heads
    layout: Layout = {
        "model.embed_tokens.weight": (shape.vocabulary, c),
        "lm_head.weight": (shape.vocabulary, c),
        "model.norm.weight": (c,),
    }
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        layout |= {
            f"{layer}.self_attn.q_proj.weight": (c, c),
            f"{layer}.self_attn.k_proj.weight": (narrow, c),
            f"{layer}.self_attn.v_proj.weight": (narrow, c),
            f"{layer}.self_attn.o_proj.weight": (c, c),
            f"{layer}.mlp.gate_proj.weight": (wide, c),
            f"{layer}.mlp.up_proj.weight": (wide, c),
            f"{layer}.mlp.down_proj.weight": (c, wide),
            f"{layer}.input_layernorm.weight": (c,),
            f"{layer}.post_attention_layernorm.weight": (c,),
        }
    return layout


def injection_layout(shape: Shape) -> Layout:
    c, q, wide = shape.hidden, shape.layers, BIND_WIDENING * shape.hidden
    narrow = shape.kv_heads * c // shape.heads
    layout: Layout = {
        "bind.proj.weight": (c, EMBEDDING_DIM),
        "bind.proj.bias": (c,),
        "injection.gate": (q, shape.heads),
        "injection.query": (q, c),
        "injection.v_lora_a": (q, CORRECTION_RANK, c),
        "injection.v_lora_b": (q, narrow, CORRECTION_RANK),
    }
    for j in range(BIND_BLOCKS):
        block = f"bind.blocks.{j}"
        layout |= {
            f"{block}.norm.weight": (c,),
            f"{block}.gate_proj.weight": (wide, c),
            f"{block}.up_proj.weight": (wide, c),
            f"{block}.down_proj.weight": (c, wide),
        }
    return layout
