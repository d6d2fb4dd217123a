"""The Ray deployment rejects what only `bindserve serve` supports."""

import json
from pathlib import Path

import pytest

from deploy.ray.checks import check_settings
from model_ext.config import ENCODERS_ALONE
from model_ext.errors import ConfigError
from server.settings import Settings


def test_encoders_alone_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [ENCODERS_ALONE]}))
    with pytest.raises(ConfigError, match="encoders only"):
        check_settings(Settings(model=tmp_path))


def test_the_listener_for_weaviate_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weaviate"):
        check_settings(Settings(model=tmp_path, weaviate="127.0.0.1:9999"))
