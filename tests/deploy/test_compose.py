"""Each file, secret, volume, setting and host name of compose.yaml exists."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings
from server.side.catalog import SIDES, enabled

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose"

needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="of the extra `test`"
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return document


@needs_compose
def test_compose_accepts_the_file() -> None:
    server = composed("compose.yaml")["services"]["server"]
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@needs_compose
def test_compose_requests_no_gpu_on_a_cpu() -> None:
    server = composed("compose.yaml", "cpu.yaml")["services"]["server"]
    assert "deploy" not in server
    assert server["build"]["args"]["DEVICE"] == "cpu"


@needs_compose
def test_compose_serves_encoders_alone() -> None:
    services = composed("compose.yaml", "encoders.yaml", "cpu.yaml")["services"]
    server = services["server"]
    assert "cache" not in services
    assert server["command"] == ["serve", "/model", "--state-folder=/state"]
    assert set(server["environment"]) == {"BINDSERVE_API_KEY_FILE", "BINDSERVE_METRICS_KEY_FILE"}
    assert {each["target"] for each in server["volumes"]} == {"/cache", "/state", "/model"}
    assert "depends_on" not in server


@needs_compose
def test_compose_adds_side_models() -> None:
    services = composed("compose.yaml", "sides.yaml", "cpu.yaml")["services"]
    server = services["server"]
    assert {each["target"]: each.get("read_only") for each in server["volumes"]} == {
        "/cache": None,
        "/sides": True,
    }
    environment = server["environment"]
    fields = {name.removeprefix("BINDSERVE_").lower(): value for name, value in environment.items()}
    loaded = Settings.load(model="/model", **fields)
    assert [side.name for side in enabled(loaded)] == [side.name for side in SIDES]
    assert loaded.experts == loaded.enabled_experts == ("speech", "ocr", "objects")
    extras = server["build"]["args"]["EXTRAS"].split()
    assert set(extras) == {side.extra for side in SIDES if side.extra}


def composed(*files: str) -> dict[str, Any]:
    """Return the configuration that Docker Compose builds from several files."""
    options = [f"--file={COMPOSE / name}" for name in files]
    command = ["docker-compose", *options, "config", "--format=json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_every_service_is_hardened_and_pinned(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_mounted_files_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (COMPOSE / source).exists()
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])


def test_the_servers_settings_exist(compose: dict[str, Any]) -> None:
    environment = compose["services"]["server"]["environment"]
    fields = {name.removeprefix("BINDSERVE_").lower(): value for name, value in environment.items()}
    assert Settings.load(model="/model", **fields).cache == "http://cache:8100"


def test_prometheus_has_the_secrets_of_the_services(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    for job in config["scrape_configs"]:
        secret = Path(job["authorization"]["credentials_file"]).name
        assert secret in compose["services"]["prometheus"]["secrets"]
        (target,) = job["static_configs"][0]["targets"]
        assert target.split(":")[0] in compose["services"]
    for rules in config["rule_files"]:
        assert (DEPLOY / "prometheus" / rules).is_file()


def test_grafana_reads_from_prometheus(compose: dict[str, Any]) -> None:
    path = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    assert source["url"].split("//")[1].split(":")[0] in compose["services"]


def test_the_secrets_are_made(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "keys.sh", tmp_path)
    done = subprocess.run([tmp_path / "keys.sh"], capture_output=True, text=True, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(each["file"]).name for each in compose["secrets"].values()} == made.keys()
    keys = [line for line in made["keys"].splitlines() if not line.startswith("#")]
    assert len(keys) == 1
    assert keys[0] in done.stdout
    assert len({*keys, made["metrics-key"], made["cache-token"], made["grafana-password"]}) == 4
    assert all(re.fullmatch("[0-9a-f]{48}", each) for each in keys)
    again = subprocess.run([tmp_path / "keys.sh"], capture_output=True, text=True)
    assert again.returncode == 1
    assert os.stat(tmp_path / "secrets").st_mode & 0o077 == 0
