"""Single encoders of a folder can be loaded. Their outputs equal those of the whole model."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_ext.checks.probe import cloud, probe, wave
from model_ext.errors import ConfigError
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE, ImageBind, TensorError
from model_ext.imagebind.subset import load_encoders


@pytest.fixture(scope="module")
def folder(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["finetune"] / "encoders"


def test_each_alone_gives_what_all_give(folder: Path) -> None:
    whole = ImageBind.from_folder(folder)
    for modality in whole.modalities:
        alone = load_encoders(folder, [modality])
        assert alone.modalities == (modality,)
        inputs = probe(modality, whole.config)
        with torch.inference_mode():
            unit = alone.unit(modality, inputs)
            assert torch.equal(unit, whole.unit(modality, inputs))
        torch.testing.assert_close(unit.norm(), torch.tensor(1.0), atol=1e-5, rtol=0)


def test_several(folder: Path) -> None:
    assert set(load_encoders(folder, ["audio", "imu"]).modalities) == {"audio", "imu"}


def test_an_encoder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no smell encoder; there are vision, "):
        load_encoders(folder, ["smell"])


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes((folder / CONFIG_FILE).read_bytes())
    (tmp_path / TENSORS_FILE).write_bytes(b"no")
    with pytest.raises(TensorError, match=TENSORS_FILE):
        load_encoders(tmp_path, ["audio"])
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ConfigError, match=CONFIG_FILE):
        load_encoders(tmp_path, ["audio"])


def test_probes_are_spread() -> None:
    assert wave(5, 7).shape == (5, 7)
    assert abs(wave(1000).mean()) < 0.01
    assert len(wave(1000).unique()) == 1000
    torch.testing.assert_close(cloud(64).norm(dim=-1), torch.ones(1, 64))
    assert cloud(64).mean(1).norm() < 0.02


def test_weights_stored_in_half_precision_are_read_in_float32(folder: Path, tmp_path: Path) -> None:
    """Weights in float16 are converted to float32, in which the first layers of the point encoder
    compute.
    """
    whole = ImageBind.from_folder(folder)
    tensors = {name: tensor.half() for name, tensor in load_file(folder / TENSORS_FILE).items()}
    save_file(tensors, tmp_path / TENSORS_FILE)
    shutil.copy(folder / CONFIG_FILE, tmp_path)
    for modality in whole.modalities:
        inputs = probe(modality, whole.config)
        with torch.inference_mode():
            similarity = (
                load_encoders(tmp_path, [modality]).unit(modality, inputs)
                * whole.unit(modality, inputs)
            ).sum(-1)
        assert similarity.min() > 0.999
