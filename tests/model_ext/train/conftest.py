"""Fixtures for training: the encoders and the adapters of the tiny released model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_ext.config import BindConfig
from model_ext.convert.adapter import open_adapter
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.released import from_released
from model_ext.train.lm.base import build, open_base
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.lm.phase import Phase, select

FIXTURES = Path(__file__).parents[2] / "fixtures"
BASE = FIXTURES / "tiny" / "llama" / "tiny"

MakeModel = Callable[[Phase], ConditionedLlama]


@pytest.fixture(scope="session")
def encoders_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "encoders"
    sizes = json.loads((FIXTURES / "tiny" / "imagebind_config.json").read_text())
    released = torch.load(FIXTURES / "tiny" / "imagebind_w3D.pth", weights_only=True)
    from_released(released, ImageBindConfig.from_imagebind_config(sizes)).save(folder)
    return folder


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Return a function that builds the model of a training phase with the fixture's weights."""

    def make(phase: Phase) -> ConditionedLlama:
        llama = open_base(BASE)
        adapter = open_adapter(FIXTURES / "tiny" / f"adapter-{phase}.pth", llama.sizes)
        sizes = adapter.sizes
        bind = BindConfig(
            in_features=sizes["D"], hidden_size=sizes["C"], intermediate_size=sizes["W"]
        )
        first_layer = sizes["L"] - sizes["q"]
        model = build(llama, bind, first_layer, sizes["r"], 512, torch.float32)
        parameters = dict(model.named_parameters())
        for name, lazy in adapter.tensors.items():
            if name in parameters:  # layers below the injected ones have no gates in the model
                parameters[name].data = lazy.read().float()
        select(model, phase)
        return model

    return make
