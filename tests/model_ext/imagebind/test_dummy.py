"""Encoders with random weights have the configured sizes, and the same weights in all processes."""

from pathlib import Path

import pytest
import torch

from model_ext.bench.serving_folder import TINY_ENCODERS
from model_ext.errors import ConfigError
from model_ext.imagebind.dummy import from_config


def test_encoders_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(TINY_ENCODERS.to_json())
    first, second = from_config(tmp_path), from_config(tmp_path, dtype=torch.bfloat16)
    assert first.config == TINY_ENCODERS
    image = torch.rand(1, 3, 224, 224)
    unit = first.unit("vision", image)
    assert unit.shape == (1, TINY_ENCODERS.embed_dim)
    assert unit.norm().item() == pytest.approx(1, rel=1e-5)
    assert (unit * second.unit("vision", image)).sum() > 0.99


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        from_config(tmp_path)
    (tmp_path / "config.json").write_text('{"sight": {}}')
    with pytest.raises(ConfigError, match=r"config\.json: unknown key 'sight'"):
        from_config(tmp_path)
