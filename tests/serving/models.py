"""Write models with random weights and grouped-query attention, and LoRA adapters for them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.oracle import Oracle

LAYERS, HEADS, KV_HEADS, WIDTH, WIDE, VOCABULARY, DIM, RANK = 4, 4, 2, 128, 192, 512, 40, 4
SIZE = WIDTH // HEADS  # the size of an attention head
NARROW = KV_HEADS * SIZE
FIRST = 1  # the first injected layer


def random_model(like: Path, folder: Path, form: str, seed: int = 0) -> Path:
    """Write a model folder with grouped-query attention. `form`: the form of the injection."""
    shutil.copytree(like, folder)
    for weights_file in folder.glob("model*"):
        weights_file.unlink()
    (folder / "golden.json").unlink(missing_ok=True)
    config: dict[str, Any] = json.loads((like / "config.json").read_text())
    config |= {
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": WIDE,
        "attention_bias": False,
        "mlp_bias": False,
        "injection": {
            "form": form,
            "first_layer": FIRST,
            "layers": LAYERS - FIRST,
            "v_correction_rank": RANK if form == "value" else 0,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(seed)
    weights = language_model(generator) | injection(generator, form)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def language_model(generator: torch.Generator) -> dict[str, Tensor]:
    weights = {
        "model.embed_tokens.weight": random(generator, VOCABULARY, WIDTH) * 5,
        "lm_head.weight": random(generator, VOCABULARY, WIDTH),
        "model.norm.weight": torch.ones(WIDTH),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        for name, (rows, columns) in projections().items():
            weights[f"{layer}.{name}.weight"] = random(generator, rows, columns)
        weights[f"{layer}.input_layernorm.weight"] = torch.ones(WIDTH)
        weights[f"{layer}.post_attention_layernorm.weight"] = torch.ones(WIDTH)
    return weights


def projections() -> dict[str, tuple[int, int]]:
    return {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (NARROW, WIDTH),
        "self_attn.v_proj": (NARROW, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (WIDE, WIDTH),
        "mlp.up_proj": (WIDE, WIDTH),
        "mlp.down_proj": (WIDTH, WIDE),
    }


def injection(generator: torch.Generator, form: str) -> dict[str, Tensor]:
    layers, hidden = LAYERS - FIRST, 4 * WIDTH
    weights = {
        "bind.proj.weight": random(generator, WIDTH, DIM),
        "bind.proj.bias": random(generator, WIDTH),
    }
    for j in range(3):
        block = f"bind.blocks.{j}"
        weights[f"{block}.norm.weight"] = torch.ones(WIDTH)
        weights[f"{block}.gate_proj.weight"] = random(generator, hidden, WIDTH)
        weights[f"{block}.up_proj.weight"] = random(generator, hidden, WIDTH)
        weights[f"{block}.down_proj.weight"] = random(generator, WIDTH, hidden)
    if form == "residual":
        return weights | {"injection.gate": random(generator, layers, 1)}
    return weights | {
        "injection.gate": random(generator, layers, HEADS) * 3,
        "injection.query": random(generator, layers, WIDTH),
        "injection.v_lora_a": random(generator, layers, RANK, WIDTH) * 2,
        "injection.v_lora_b": random(generator, layers, NARROW, RANK) * 2,
    }


def lora_adapter(folder: Path, seed: int) -> Path:
    """Write a PEFT adapter for all attention projections. The adapter changes the answers."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    names = [name for name in projections() if name.startswith("self_attn")]
    weights = {}
    for i in range(LAYERS):
        for name in names:
            rows, columns = projections()[name]
            prefix = f"base_model.model.model.layers.{i}.{name}"
            weights[f"{prefix}.lora_A.weight"] = random(generator, RANK, columns)
            weights[f"{prefix}.lora_B.weight"] = random(generator, rows, RANK)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [name.split(".")[1] for name in names],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def with_lora(oracle: Oracle, adapter: Path) -> Oracle:
    """Return an oracle (slow reference implementation) whose projections include the adapter.

    The v_proj that the injected term uses is without the adapter.
    """
    from safetensors.torch import load_file

    weights = dict(oracle.weights)
    factors = load_file(adapter / "adapter_model.safetensors")
    scale = 2.0  # The scale of LoRA is alpha / rank.
    a_rows, b_rows = [], []
    for i in range(LAYERS):
        for name in projections():
            prefix = f"base_model.model.model.layers.{i}.{name}"
            if f"{prefix}.lora_A.weight" not in factors:
                continue
            a = factors[f"{prefix}.lora_A.weight"]
            b = scale * factors[f"{prefix}.lora_B.weight"]
            target = f"model.layers.{i}.{name}.weight"
            weights[target] = weights[target] + b @ a
            if name == "self_attn.v_proj" and i >= FIRST:
                a_rows.append(torch.cat([weights["injection.v_lora_a"][i - FIRST], a]))
                b_rows.append(torch.cat([weights["injection.v_lora_b"][i - FIRST], b], dim=1))
    weights["injection.v_lora_a"] = torch.stack(a_rows)
    weights["injection.v_lora_b"] = torch.stack(b_rows)
    return Oracle(oracle.config, weights)


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5
