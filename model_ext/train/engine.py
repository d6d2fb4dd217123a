"""The DeepSpeed engine around the conditioned LLaMA: optimiser, precision, ZeRO stage.

DeepSpeed's own settings stay in its JSON file; the numbers that the YAML file decides are filled
in, and may not contradict it.
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
OURS = ("optimizer", "scheduler", "gradient_clipping")  # decided by the recipe


def settings(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """DeepSpeed's JSON with batch sizes from the YAML, bf16 on a GPU unless it says otherwise."""
    written = _read(config.deepspeed) if config.deepspeed else dict(DEFAULT)
    for key in OURS:
        if key in written:
            raise TrainError(f"{config.deepspeed}: {key} is decided by the training recipe")
    sizes = {
        "train_micro_batch_size_per_gpu": config.batch,
        "gradient_accumulation_steps": config.accumulate,
        "train_batch_size": config.batch * config.accumulate * distributed.world(),
    }
    for key, size in sizes.items():
        if written.get(key, "auto") not in ("auto", size):
            raise TrainError(f"{config.deepspeed}: {key} is {written[key]}, the YAML says {size}")
    precise = "bf16" in written or "fp16" in written
    precision = {} if precise or device.type == "cpu" else {"bf16": {"enabled": True}}
    if device.type == "cpu" and written.get("fp16", {}).get("enabled"):
        raise TrainError(f"{config.deepspeed}: fp16 does not work on a CPU")
    quiet = {"steps_per_print": 10**12, "wall_clock_breakdown": False}
    return quiet | precision | written | sizes


def base_dtype(ds: dict[str, Any]) -> torch.dtype:
    """The frozen base's type: that of the products."""
    if ds.get("bf16", {}).get("enabled"):
        return torch.bfloat16
    return torch.float16 if ds.get("fp16", {}).get("enabled") else torch.float32


def start(model: ConditionedLlama, config: TrainConfig, ds: dict[str, Any]) -> Any:
    """The engine. AdamW without fused kernels: nothing to compile, and the same on every device."""
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
    """What this or an earlier phase trained, whole and float32. All processes must call this."""
    model: ConditionedLlama = engine.module
    return {
        name: _whole(parameter, engine.zero_optimization_stage()).detach().float().cpu().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or is_trained(name, "pretrain")
    }


def _whole(parameter: torch.nn.Parameter, stage: int) -> torch.Tensor:
    """ZeRO keeps the float32 of what learns in pieces, at stage 3 also what is frozen."""
    if parameter.requires_grad and stage > 0:
        full: torch.Tensor = safe_get_full_fp32_param(parameter)
        return full
    if stage == 3:
        with deepspeed.zero.GatheredParameters(parameter):
            return parameter.data.clone()
    return parameter.data


def _read(path: Path) -> dict[str, Any]:
    try:
        written = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainError(f"{path}: {error}") from None
    if not isinstance(written, dict):
        raise TrainError(f"{path}: expected a JSON object")
    return written
