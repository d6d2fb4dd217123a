"""Fixtures: tiny encoders in the released format, and recorded outputs of the released code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.released import from_released
from tests.rounding import between

FIXTURES = Path(__file__).parents[2] / "fixtures"
# The number of terms of each sum in the tiny vision encoder: a patch of 3 x 2 x 14 x 14 values, the
# norms, projections, scores, values and MLP of each of 3 blocks, the last norm, and the head. The
# other encoders have fewer terms.
_BLOCK = [32, 32, 8, 257, 32, 32, 32, 128]
# The largest allowed error of an encoder, relative to the largest value.
ENCODER_ERROR = between([3 * 2 * 14 * 14, *_BLOCK * 3, 32, 32])


@pytest.fixture(scope="session")
def media() -> Path:
    return FIXTURES / "media"


@pytest.fixture(scope="session")
def tiny_config() -> ImageBindConfig:
    document = json.loads((FIXTURES / "tiny/imagebind_config.json").read_text())
    return ImageBindConfig.from_imagebind_config(document)


@pytest.fixture(scope="session")
def tiny_tensors() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(FIXTURES / "tiny/imagebind_w3D.pth", weights_only=True)
    return tensors


@pytest.fixture(scope="session")
def tiny(tiny_tensors: dict[str, Tensor], tiny_config: ImageBindConfig) -> ImageBind:
    return from_released(tiny_tensors, tiny_config).requires_grad_(False)


@pytest.fixture(scope="session")
def golden_inputs() -> dict[str, Tensor]:
    return load_file(FIXTURES / "golden/preprocess.safetensors")


@pytest.fixture(scope="session")
def golden_embeddings() -> dict[str, Tensor]:
    return load_file(FIXTURES / "golden/embeddings.safetensors")


@pytest.fixture(scope="session")
def released_layout() -> dict[str, tuple[int, ...]]:
    document = json.loads((FIXTURES / "layout/layout.imagebind_w3D.json").read_text())
    return {name: tuple(row["shape"]) for name, row in document["layout"].items()}
