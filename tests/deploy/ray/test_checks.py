"""The Ray deployment: settings that it rejects, and the server class that a model gets."""

import json
from pathlib import Path

import pytest

from deploy.ray.app import server_class
from deploy.ray.checks import check_settings
from model_ext.config import ENCODERS_ALONE
from model_ext.errors import ConfigError
from server.settings import Settings


def test_a_model_of_encoders_alone_has_its_own_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [ENCODERS_ALONE]}))
    assert server_class(tmp_path).name == "EncoderServer"


def test_the_listener_for_weaviate_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weaviate"):
        check_settings(Settings(model=tmp_path, weaviate="127.0.0.1:9999"))
