"""The arguments and the errors of `bindserve train`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli.train import train_app
from tests.model_ext.train.encoders.conftest import SIZES

RUNNER = CliRunner()


@pytest.mark.parametrize("command", ["pretrain", "finetune", "encoders", "export"])
def test_help_of_every_command(command: str) -> None:
    result = RUNNER.invoke(train_app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_loads_neither_torch_nor_deepspeed() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from server.cli.train import train_app;"
        "CliRunner().invoke(train_app, ['--help']);"
        "sys.exit(bool({'torch', 'deepspeed'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_missing_argument_is_wrong_usage() -> None:
    assert RUNNER.invoke(train_app, ["pretrain"]).exit_code == 2


@pytest.mark.parametrize("command", ["pretrain", "finetune", "encoders"])
def test_a_missing_file_is_named(command: str, tmp_path: Path) -> None:
    result = RUNNER.invoke(train_app, [command, str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml: no such file" in result.output


def test_export_of_nothing_is_named(tmp_path: Path) -> None:
    result = RUNNER.invoke(train_app, ["export", str(tmp_path), "--out", str(tmp_path / "model")])
    assert result.exit_code == 1
    assert "a run writes this file when it finishes" in result.output


def test_encoders_are_trained_from_a_file(tmp_path: Path) -> None:
    """In the list, each key belongs to two samples: one image and one text."""
    from PIL import Image

    rows = []
    for key in ("red", "blue"):
        Image.new("RGB", (32, 32), key).save(tmp_path / f"{key}.png")
        rows.append({"key": key, "modality": "image", "path": f"{key}.png"})
        rows.append({"key": key, "modality": "text", "text": key})
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "out": str(tmp_path / "run"),
        "train_list": str(tmp_path / "list.jsonl"),
        "encoders": {name: SIZES[name] for name in ("embed_dim", "vision", "text")},
        "train": ["vision", "text"],
        "steps": 2,
        "batch": 2,
        "image_side": 32,
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    result = RUNNER.invoke(train_app, ["encoders", str(tmp_path / "config.yaml")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "encoders" / "model.safetensors").is_file()
