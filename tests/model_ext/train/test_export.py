"""The export of a training run writes the tensors that a conversion of the adapter writes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_ext.config import BindServeConfig
from model_ext.train.errors import TrainError
from model_ext.train.export import export_run
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE, open_base
from model_ext.train.lm.phase import Phase, is_trained
from tests.model_ext.train.conftest import BASE, MakeModel


@pytest.fixture
def finished_run(tmp_path: Path, make_model: MakeModel, encoders_folder: Path) -> object:
    """Return a function that writes the files of a finished run with the fixture's adapter."""

    def make(phase: Phase) -> Path:
        run = tmp_path / phase
        run.mkdir()
        model = make_model(phase)
        tensors = {
            name: parameter.data.clone()
            for name, parameter in model.named_parameters()
            if is_trained(name, phase) or is_trained(name, "pretrain")
        }
        save_file(tensors, run / ADAPTER_FILE)
        settings = {
            "phase": phase,
            "base": str(BASE),
            "base_fingerprint": open_base(BASE).fingerprint(),
            "encoders": str(encoders_folder),
            "config": {},
        }
        (run / SETTINGS_FILE).write_text(json.dumps(settings))
        return run

    return make


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_equal_to_the_converted_adapter(
    phase: Phase, finished_run: object, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    out = tmp_path / "model"
    assert callable(finished_run)
    exported = export_run(finished_run(phase), out, dtype="float32", progress=False)
    tensors, expected = tensors_of(out), tensors_of(tiny_models[phase])
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    written = json.loads((out / "config.json").read_text())
    converted = json.loads((tiny_models[phase] / "config.json").read_text())
    assert {**written, "provenance": None} == {**converted, "provenance": None}
    assert BindServeConfig.from_hf(written) == exported
    for name in ("tokenizer.json", "chat_template.jinja", "encoders/config.json"):
        assert (out / name).read_bytes() == (tiny_models[phase] / name).read_bytes()
    assert asdict(exported.provenance)["stage"] == phase


def test_another_base_is_refused(finished_run: object, tmp_path: Path) -> None:
    assert callable(finished_run)
    run = finished_run("pretrain")
    settings = json.loads((run / SETTINGS_FILE).read_text())
    settings["base_fingerprint"] = "0" * 64
    (run / SETTINGS_FILE).write_text(json.dumps(settings))
    with pytest.raises(TrainError, match="not the base"):
        export_run(run, tmp_path / "model", progress=False)
    assert not (tmp_path / "model").exists()


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="when it finishes"):
        export_run(tmp_path, tmp_path / "model", progress=False)


def test_left_over_tensors_are_refused(finished_run: object, tmp_path: Path) -> None:
    assert callable(finished_run)
    run = finished_run("pretrain")
    tensors = load_file(run / ADAPTER_FILE) | {"model.extra": torch.zeros(1)}
    save_file(tensors, run / ADAPTER_FILE)
    with pytest.raises(TrainError, match=r"model\.extra"):
        export_run(run, tmp_path / "model", progress=False)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    files = [*folder.glob("*.safetensors"), folder / "encoders" / "model.safetensors"]
    return {
        f"{path.parent.name == 'encoders'} {name}": tensor
        for path in files
        for name, tensor in load_file(path).items()
    }
