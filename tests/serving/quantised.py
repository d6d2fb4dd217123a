"""Quantise the language model of a model folder to 8-bit integers (compressed-tensors W8A8).

Also build an oracle (slow reference implementation) with the same quantised weights. The weights of
the injection stay in float32. The injected term also uses projections of the language model, which
are quantised.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tests.oracle import Oracle

ACTIVATIONS = 127
# The weights are from -63 to 63. On processors without VNNI instructions, oneDNN adds two 8-bit
# products in 16 bits. Larger weights would overflow these sums and change a layer's output by 10%.
WEIGHTS = 63
NUMBERS = {"num_bits": 8, "type": "int", "symmetric": True}
QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**NUMBERS, "strategy": "channel", "dynamic": False},
            "input_activations": {**NUMBERS, "strategy": "token", "dynamic": True},
        }
    },
}


def quantise(source: Path, folder: Path) -> "QuantisedOracle":
    """Write a copy of the source folder with quantised layers, and return its oracle."""
    shutil.copytree(source, folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = QUANTIZATION
    (folder / "config.json").write_text(json.dumps(config))
    stored, dequantised = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = dequantised[name] = weight
        if quantised(name):
            whole, scale = rounded(weight, WEIGHTS)
            stored[name] = whole.to(torch.int8)
            stored[name.replace("weight", "weight_scale")] = scale
            dequantised[name] = whole * scale
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return QuantisedOracle(config, dequantised)


class QuantisedOracle(Oracle):
    """An oracle that also rounds the input of each quantised projection, as vLLM does."""

    def linear(self, name: str, x: Tensor) -> Tensor:
        if quantised(f"{name}.weight"):
            whole, scale = rounded(x, ACTIVATIONS)
            x = whole * scale
        return super().linear(name, x)

    def deltas(self, embedding: Tensor) -> Tensor:
        """Return the injected terms (q, C), computed with quantised projections."""
        injection, bound = self.config["injection"], self.bind(embedding)
        rows = []
        for j in range(injection["layers"]):
            prefix = f"model.layers.{injection['first_layer'] + j}.self_attn"
            source = bound + self.weights["injection.query"][j]
            correction = F.linear(source, self.weights["injection.v_lora_a"][j])
            correction = F.linear(correction, self.weights["injection.v_lora_b"][j])
            value = self.linear(f"{prefix}.v_proj", source) - correction
            heads = value.view(self.config["num_key_value_heads"], -1)
            groups = self.config["num_attention_heads"] // len(heads)
            gate = torch.tanh(self.weights["injection.gate"][j])[:, None]
            injected = gate * heads.repeat_interleave(groups, dim=0)
            rows.append(self.linear(f"{prefix}.o_proj", injected.flatten()))
        return torch.stack(rows)


def quantised(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("proj.weight")


def rounded(x: Tensor, maximum: int) -> tuple[Tensor, Tensor]:
    """Quantise a matrix to integers from -maximum to maximum. Each row has its own scale."""
    scale = x.abs().amax(dim=-1, keepdim=True) / maximum
    return (x / scale).round(), scale
