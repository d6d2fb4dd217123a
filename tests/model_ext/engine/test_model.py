"""The model folds matrices and captures graphs only if this is possible. The tests use a fake
model.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config.compilation import CUDAGraphMode

from model_ext.engine.model import ImageBindLLMForCausalLM
from model_ext.engine.settings import ArrivalSettings
from model_ext.engine.state_v2 import ConditionedModelState


def model(
    settings: ArrivalSettings | None = None,
    *,
    captures: bool = True,
    mode: CUDAGraphMode = CUDAGraphMode.FULL_AND_PIECEWISE,
    ranks: int = 1,
    cumem: bool = False,
    form: str = "value",
    plain: bool = True,
) -> Any:
    """A fake model with the attributes that `_fold` and `_may_capture` read."""
    return SimpleNamespace(
        settings=settings or ArrivalSettings(),
        vllm_config=SimpleNamespace(
            compilation_config=SimpleNamespace(cudagraph_mode=mode),
            parallel_config=SimpleNamespace(world_size=ranks),
            model_config=SimpleNamespace(enable_cumem_allocator=cumem),
        ),
        bindserve=SimpleNamespace(injection=SimpleNamespace(form=form)),
        _device=SimpleNamespace(captures=captures, torch=torch.device("cpu")),
        _plain_layers=lambda: ["a layer"] if plain else None,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"settings": ArrivalSettings(arrival="layers")}, True),
        ({"form": "residual", "plain": False}, True),
        ({"settings": ArrivalSettings(graphs=False)}, False),
        ({"captures": False}, False),  # A device that captures no graphs, as a CPU.
        ({"mode": CUDAGraphMode.NONE}, False),  # vLLM's option --enforce-eager sets this mode.
        ({"ranks": 2}, False),
        ({"cumem": True}, False),
        ({"plain": False}, False),  # quantised weights
    ],
    ids=str,
)
def test_arrivals_are_captured(options: dict[str, Any], expected: bool) -> None:
    assert ImageBindLLMForCausalLM._may_capture(model(**options)) is expected


def test_maps_that_must_be_folded_but_cannot_be() -> None:
    settings = ArrivalSettings(arrival="folded")
    with pytest.raises(ValueError, match=r"additional_config\.bindserve\.arrival"):
        ImageBindLLMForCausalLM._fold(model(settings, plain=False))
    # with the default setting, `_fold` raises no error
    ImageBindLLMForCausalLM._fold(model(plain=False))


def test_layers_are_not_folded_if_the_setting_says_so() -> None:
    # The fake model has no weights, so `_fold` would raise an error if it read them.
    ImageBindLLMForCausalLM._fold(model(ArrivalSettings(arrival="layers")))


def test_the_model_names_its_adapter_for_the_v2_runner() -> None:
    assert ImageBindLLMForCausalLM.get_model_state_cls() is ConditionedModelState
