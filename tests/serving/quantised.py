"""A model folder's language model in integers, as compressed-tensors stores it, and what it means.

The injection stays as it is: its own weights are few, and it goes through the base's.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.oracle import Oracle

Scheme = Literal["w8a8", "w4a16"]
GROUP = 32  # columns that share a scale, in four bits


def quantise(source: Path, folder: Path, scheme: Scheme) -> Oracle:
    """Write the folder anew with quantised layers; the oracle has the weights that it stands for.

    What w8a8 does to activations the oracle does not know.
    """
    shutil.copytree(source, folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization(scheme)
    (folder / "config.json").write_text(json.dumps(config))
    stored, meant = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.startswith("model.layers.") and name.endswith("proj.weight"):
            make = eight_bits if scheme == "w8a8" else four_bits
            tensors, meant[name] = make(weight)
            stem = name.removesuffix("weight")
            stored |= {f"{stem}{suffix}": tensor for suffix, tensor in tensors.items()}
        else:
            stored[name] = meant[name] = weight
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return Oracle(config, meant)


def quantization(scheme: Scheme) -> dict[str, Any]:
    numbers = {"type": "int", "symmetric": True, "dynamic": False}
    eight = {**numbers, "num_bits": 8, "strategy": "channel"}
    four = {**numbers, "num_bits": 4, "strategy": "group", "group_size": GROUP}
    activations = {**numbers, "num_bits": 8, "strategy": "token", "dynamic": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if scheme == "w8a8" else "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": eight if scheme == "w8a8" else four,
                "input_activations": activations if scheme == "w8a8" else None,
            }
        },
    }


def eight_bits(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """One scale a row."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    whole = (weight / scale).round()
    return {"weight": whole.to(torch.int8), "weight_scale": scale}, whole * scale


def four_bits(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Eight numbers in 32 bits, the first lowest, each with 8 added."""
    grouped = weight.unflatten(1, (-1, GROUP))
    scale = grouped.abs().amax(dim=2) / 7
    whole = (grouped / scale[:, :, None]).round().clamp(-8, 7)
    codes = (whole.flatten(1).long() + 8).unflatten(1, (-1, 8)) << torch.arange(0, 32, 4)
    packed = codes.sum(-1).to(torch.uint32).view(torch.int32)
    tensors = {
        "weight_packed": packed,
        "weight_scale": scale,
        "weight_shape": torch.tensor(weight.shape),
    }
    return tensors, (whole * scale[:, :, None]).flatten(1)
