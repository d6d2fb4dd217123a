"""The released settings of each training phase: which parameters are trained, and the
hyperparameters.

This module depends on parameter names, but not on files or on the optimiser's implementation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

Phase = Literal["pretrain", "finetune"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The released defaults of a phase. Learning rates are those for 256 samples per update."""

    max_tokens: int
    epochs: int
    warmup_epochs: int
    base_learning_rate: float
    weight_decay: float
    save_epochs: int
    passes_per_epoch: int  # a sub-epoch covers 1 / split of the data


RECIPES: dict[Phase, Recipe] = {
    "pretrain": Recipe(96, 150, 5, 1e-4, 0.05, 2, 50),
    "finetune": Recipe(512, 4, 1, 1e-3, 0.02, 5, 1),
}
BETAS = (0.9, 0.95)
EPS = 1e-8


def is_trained(name: str, phase: Phase) -> bool:
    """Whether the phase trains this parameter.

    pretrain: bind network, queries, gates. finetune: norms, biases and LoRA of the LLaMA.
    """
    if phase == "pretrain":
        return name.startswith(("bind.", "injection."))
    if not name.startswith("model."):
        return False
    return "norm" in name or name.endswith((".bias", ".lora_a", ".lora_b"))


def select(model: nn.Module, phase: Phase) -> None:
    """Set requires_grad for the phase, and cast trained tensors to float32."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, phase))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    gate_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups.

    Tensors with one axis, and tensors whose name ends in `.bias`, have no weight decay. Gates of
    the value form have four axes, and therefore weight decay. If `gate_factor` is not 1, gates are
    in separate groups, whose `factor` multiplies the learning rate.
    """
    parameters_of: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(".bias")
            fast = gate_factor != 1.0 and ".gate." in name and name.startswith("injection.")
            parameters_of.setdefault((decays, fast), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "factor": gate_factor if fast else 1.0,
        }
        for (decays, fast), parameters in sorted(parameters_of.items())
    ]
