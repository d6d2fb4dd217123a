"""Conversion of ImageBind's weights alone: a .pth file, and the same tensors in a .safetensors
file in a folder.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_ext.convert.encoders_alone import EncoderSource, write_encoders
from tests.model_ext.convert.conftest import TINY

WEIGHTS = Path("encoders", "model.safetensors")


def convert(source: EncoderSource, folder: Path) -> dict[str, Tensor]:
    folder.mkdir()
    write_encoders(source, folder, progress=False)
    return load_file(folder / WEIGHTS)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    tensors = torch.load(TINY / "imagebind_w3D.pth", weights_only=True)
    assert any(tensor.dtype == torch.int64 for tensor in tensors.values())  # Point-Bind's counters
    copied = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(copied, folder / "model.safetensors")
    shutil.copy(TINY / "imagebind_config.json", folder)
    return folder


def test_the_same_tensors_in_safetensors(hub: Path, tmp_path: Path) -> None:
    """Regression: Point-Bind's integer tensors, which are not used, were rejected."""
    expected = convert(EncoderSource(imagebind=TINY / "imagebind_w3D.pth"), tmp_path / "a")
    converted = convert(EncoderSource(imagebind=hub), tmp_path / "b")
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in expected.items())
