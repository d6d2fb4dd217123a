"""Give the LoRA of a run a higher rank. The outputs do not change, because the new columns of B are
zero.

    python -m model_ext.demo.widen --run build/demo/neutral --out build/demo/rank --rank 24
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tensors = widened(load_file(options.run / ADAPTER_FILE), options.rank)
    save_file(tensors, options.out / ADAPTER_FILE, metadata={"format": "pt"})
    shutil.copy(options.run / SETTINGS_FILE, options.out / SETTINGS_FILE)


def widened(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return the tensors in float32, with LoRA matrices A (rank, in) and B (out, rank).

    Raises ValueError: when the LoRA has a higher rank already.
    """
    generator = torch.Generator().manual_seed(0)
    return {
        name: widened_lora(name, tensors[name].float(), rank, generator) for name in sorted(tensors)
    }


def widened_lora(name: str, tensor: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    if not name.endswith((".lora_a", ".lora_b")):
        return tensor
    axis = 0 if name.endswith(".lora_a") else 1
    missing = rank - tensor.shape[axis]
    if missing < 0:
        raise ValueError(f"{name} has rank {tensor.shape[axis]}, which is above {rank}")
    if axis == 1:
        return torch.cat([tensor, tensor.new_zeros(len(tensor), missing)], 1)
    width = tensor.shape[1]
    return torch.cat([tensor, torch.randn(missing, width, generator=generator) * width**-0.5])


if __name__ == "__main__":
    main()
