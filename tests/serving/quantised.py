"""A model folder's language model in 8-bit integers, as compressed-tensors stores it, and an oracle
that computes in them.

The injection stays as it is: its own weights are few, and it goes through the base's layers.
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
# Seven bits: without VNNI instructions oneDNN adds pairs of 8-bit products in 16 bits, where those
# of larger weights overflow (seen: layers wrong by a tenth, with or without the injection).
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
    """Write the source's folder anew, with quantised layers."""
    shutil.copytree(source, folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = QUANTIZATION
    (folder / "config.json").write_text(json.dumps(config))
    stored, meant = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = meant[name] = weight
        if quantised(name):
            whole, scale = rounded(weight, WEIGHTS)
            stored[name] = whole.to(torch.int8)
            stored[name.replace("weight", "weight_scale")] = scale
            meant[name] = whole * scale
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return QuantisedOracle(config, meant)


class QuantisedOracle(Oracle):
    """Rounds what goes into the layers' maps, token by token."""

    def linear(self, name: str, x: Tensor) -> Tensor:
        if quantised(f"{name}.weight"):
            whole, scale = rounded(x, ACTIVATIONS)
            x = whole * scale
        return super().linear(name, x)

    def deltas(self, embedding: Tensor) -> Tensor:
        """(q, C): of the value form, each map rounding its own input."""
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
            gained = gate * heads.repeat_interleave(groups, dim=0)
            rows.append(self.linear(f"{prefix}.o_proj", gained.flatten()))
        return torch.stack(rows)


def quantised(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("proj.weight")


def rounded(x: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Whole numbers and their scale, one for each row."""
    scale = x.abs().amax(dim=-1, keepdim=True) / largest
    return (x / scale).round(), scale
