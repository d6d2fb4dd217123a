"""The DeepSpeed engine around the conditioned LLaMA: optimiser, precision, ZeRO stage.

DeepSpeed's settings are in its JSON file. This module adds the values of the YAML file, and raises
TrainError if the JSON file contradicts them.
"""

import json
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param

from model_ext.train import distributed
from model_ext.train.config import TrainConfig
from model_ext.train.errors import TrainError
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.lm.phase import BETAS, EPS, groups, is_trained

DEFAULT = {"zero_optimization": {"stage": 0}}
RECIPE_KEYS = ("optimizer", "scheduler", "gradient_clipping")  # only this module sets them


def settings(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Add the batch sizes to DeepSpeed's JSON and, on a GPU, bf16 if the file names no precision.

    Raises TrainError: when the file contradicts the YAML or the recipe, or sets fp16 on a CPU.
    """
    ds = _read(config.deepspeed) if config.deepspeed else dict(DEFAULT)
    for key in RECIPE_KEYS:
        if key in ds:
            raise TrainError(f"{config.deepspeed}: remove {key}; the training recipe sets it")
    sizes = {
        "train_micro_batch_size_per_gpu": config.batch,
        "gradient_accumulation_steps": config.accumulate,
        "train_batch_size": config.batch * config.accumulate * distributed.world(),
    }
    for key, size in sizes.items():
        if ds.get(key, "auto") not in ("auto", size):
            raise TrainError(
                f"{config.deepspeed}: {key} is {ds[key]}, but the YAML file implies {size}"
            )
    has_precision = "bf16" in ds or "fp16" in ds
    precision = {} if has_precision or device.type == "cpu" else {"bf16": {"enabled": True}}
    if device.type == "cpu" and ds.get("fp16", {}).get("enabled"):
        raise TrainError(f"{config.deepspeed}: a CPU cannot train in fp16; remove fp16")
    quiet = {"steps_per_print": 10**12, "wall_clock_breakdown": False}
    return quiet | precision | ds | sizes


def base_dtype(ds: dict[str, Any]) -> torch.dtype:
    """Return the dtype of the frozen base and of matrix products."""
    if ds.get("bf16", {}).get("enabled"):
        return torch.bfloat16
    return torch.float16 if ds.get("fp16", {}).get("enabled") else torch.float32


def start(model: ConditionedLlama, config: TrainConfig, ds: dict[str, Any]) -> Any:
    """Start DeepSpeed with AdamW without fused kernels, which would need a compiler."""
    optimizer = torch.optim.AdamW(
        groups(model.named_parameters(), config.weight_decay, config.gate_factor),
        lr=0.0,
        betas=BETAS,
        eps=EPS,
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ds)
    return engine


def set_learning_rate(engine: Any, rate: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def adapter_tensors(engine: Any) -> dict[str, torch.Tensor]:
    """Gather the tensors that this phase and earlier phases trained, in float32. All processes must
    call this.
    """
    model: ConditionedLlama = engine.module
    return {
        name: _gathered(parameter, engine.zero_optimization_stage()).detach().float().cpu().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or is_trained(name, "pretrain")
    }


def _gathered(parameter: torch.nn.Parameter, stage: int) -> torch.Tensor:
    """ZeRO partitions the float32 copies of trained tensors, and at stage 3 also frozen tensors."""
    if parameter.requires_grad and stage > 0:
        full: torch.Tensor = safe_get_full_fp32_param(parameter)
        return full
    if stage == 3:
        with deepspeed.zero.GatheredParameters(parameter):
            return parameter.data.clone()
    return parameter.data


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise TrainError(f"{path}: must hold a JSON object")
    return document
