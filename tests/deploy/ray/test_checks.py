"""The Ray deployment: what it rejects, and which server class a model gets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.ray.checks import check_settings
from model_ext.config import ENCODERS_ALONE
from model_ext.errors import ConfigError
from server.settings import Settings

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
sys.modules["vllm"] = None  # importing it raises ImportError
from deploy.ray.app import Arguments, build
application = build(Arguments(model=sys.argv[1], servers=(1, 4)))
deployment = application._bound_deployment
assert deployment.name == "EncoderServer", deployment.name
assert deployment._deployment_config.autoscaling_config.max_replicas == 4
"""


def test_encoders_alone_are_served_without_vllm(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [ENCODERS_ALONE]}))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_listener_for_weaviate_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weaviate"):
        check_settings(Settings(model=tmp_path, weaviate="127.0.0.1:9999"))
