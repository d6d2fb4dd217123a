"""The YAML file of a training phase: the defaults, and errors that name the key."""

from pathlib import Path
from typing import Any

import pytest

from model_ext.train.config import TrainConfig
from model_ext.train.errors import TrainError
from model_ext.train.lm.phase import Phase

REQUIRED: dict[str, Any] = {
    "out": "o",
    "base": "b",
    "encoders": "e",
    "data": ["d.tsv"],
    "start": "s",
}


def test_the_recipe_of_each_phase() -> None:
    pretrain, finetune = (TrainConfig.of(REQUIRED, phase) for phase in ("pretrain", "finetune"))
    assert (pretrain.max_tokens, pretrain.epochs, pretrain.split) == (96, 150, 50)
    assert (pretrain.base_learning_rate, pretrain.weight_decay) == (1e-4, 0.05)
    assert (finetune.max_tokens, finetune.epochs, finetune.split) == (512, 4, 1)
    assert (finetune.base_learning_rate, finetune.weight_decay) == (1e-3, 0.02)
    assert (pretrain.warmup_epochs, finetune.warmup_epochs) == (5, 1)


def test_the_released_name_of_the_data_list(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("out: o\nbase: b\nencoders: e\nMETA:\n- a.csv\n- b.csv\n")
    config = TrainConfig.from_file(path, "pretrain")
    assert config.data == (Path("a.csv"), Path("b.csv"))


@pytest.mark.parametrize(
    ("phase", "change", "message"),
    [
        ("pretrain", {"epoch": 3}, "epoch"),
        ("pretrain", {"batch": 0}, "batch"),
        ("pretrain", {"data": []}, "data"),
        ("pretrain", {"turns": "some"}, "turns"),
        ("finetune", {"start": None}, "start: finetune requires"),
        ("finetune", {"remember_texts": True}, "remember_texts"),
    ],
)
def test_wrong_settings_are_named(phase: Phase, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        TrainConfig.of(REQUIRED | change, phase)


def test_files_that_are_not_there_or_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no such file"):
        TrainConfig.from_file(tmp_path / "none.yaml", "pretrain")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(TrainError, match="not YAML"):
        TrainConfig.from_file(path, "pretrain")
    path.write_text("just words")
    with pytest.raises(TrainError, match="keys and values"):
        TrainConfig.from_file(path, "pretrain")
