"""Helm renders the chart with four sets of values: its objects are valid, secure and complete."""

import json
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from server.api.launch import encoder_flags
from server.metrics import IN_STAGE, stage
from server.settings import Settings
from server.side.catalog import SIDES, enabled
from tests.deploy.render_chart import CHART, VALUES, Manifest, render

helm = pytest.importorskip("helm_python", reason="Helm is not installed (extra `test`)")
kubernetes = pytest.importorskip("kubernetes_validate", reason="see the extra `test`")

OF_THE_OPERATOR = {
    "ServiceMonitor",
    "PrometheusRule",
}  # kinds of the Prometheus operator, for which Kubernetes has no schema


@pytest.fixture(scope="module", params=VALUES, ids=lambda path: path.stem)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(yaml.safe_load(request.param.read_text()))


def rendered(name: str) -> list[Manifest]:
    (path,) = (path for path in VALUES if path.stem == name)
    return render(yaml.safe_load(path.read_text()))


def pick(manifests: list[Manifest], kind: str, part: str = "server") -> Manifest:
    name = f"bs-{part}"
    matches = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    assert len(matches) == 1
    return matches[0]


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]


def test_there_are_four_sets_of_values() -> None:
    assert len(VALUES) == 4


def test_helm_lint_reports_no_error() -> None:
    result = helm.lint(str(CHART))
    assert not [each for each in result["messages"] if each["severity"] > 1]


@pytest.mark.parametrize("version", ["1.29", "1.33"])
def test_manifests_match_the_kubernetes_schema(manifests: list[Manifest], version: str) -> None:
    own = [m for m in manifests if m["kind"] not in OF_THE_OPERATOR]
    assert len(own) >= 5
    for manifest in own:
        kubernetes.validate(manifest, version, strict=True)


def test_no_two_objects_have_one_name(manifests: list[Manifest]) -> None:
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names)


def test_pods_are_locked_down(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(("latest", "bindserve"))
            written = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
            assert set(written) <= {"/cache", "/state", "/dev/shm"}


def test_the_grace_period_is_longer_than_the_drain(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        (container,) = pod["containers"]
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        flag = "--shutdown-timeout="
        drains = [int(a[len(flag) :]) for a in container["args"] if a.startswith(flag)] or [30]
        assert pod["terminationGracePeriodSeconds"] > pause + drains[0]


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    deployments = [m for m in manifests if m["kind"] == "Deployment"]
    for service in (m for m in manifests if m["kind"] == "Service"):
        selected = [
            d
            for d in deployments
            if service["spec"]["selector"].items()
            <= d["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert [d["metadata"]["name"] for d in selected] == [service["metadata"]["name"]]


def test_every_setting_exists(manifests: list[Manifest], tmp_path: Path) -> None:
    """bindserve accepts the settings of the ConfigMap and of the container's environment."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(pick(manifests, "ConfigMap")["data"]["settings.yaml"])
    environment = pick(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    variables: dict[str, Any] = {
        each["name"].removeprefix("BINDSERVE_").lower(): each["value"] for each in environment
    }
    loaded = Settings.load(**{**variables, "config": settings, "model": "/model"})
    for name, value in yaml.safe_load(settings.read_text()).items():
        assert getattr(loaded, name) == value


SIDE_VALUES = {
    "claim": "side-models",
    **{
        "speech": "whisper",
        "ocr": True,
        "objects": "vit",
        "detector": "owlv2",
        "decoder": "unclip",
    },
    **{"voice": True, "experts": ["speech", "objects"], "policy": "refuse", "device": "cuda"},
}


def side_settings(values: Manifest) -> Settings:
    """Return the settings of a server with the values `sides`."""
    pod = pick(render({"sides": values}), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    own = {
        name.removeprefix("BINDSERVE_").lower(): value
        for name, value in variables.items()
        if name != "BINDSERVE_CONFIG"
    }
    claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if each["name"] == "sides"]
    mounts = [each for each in container["volumeMounts"] if each["name"] == "sides"]
    if values.get("claim"):
        assert claims == [{"claimName": values["claim"], "readOnly": True}]
        assert mounts == [{"name": "sides", "mountPath": "/sides", "readOnly": True}]
    else:
        assert claims == mounts == []
    return Settings.load(**{**own, "model": "/model"})


def test_side_models_have_values() -> None:
    settings = side_settings(SIDE_VALUES)
    assert [side.name for side in enabled(settings)] == [side.name for side in SIDES]
    assert settings.speech_model == Path("/sides/whisper")
    assert settings.objects == "/sides/vit"
    assert settings.detector == Path("/sides/owlv2")
    assert settings.decoder == "/sides/unclip"
    assert (settings.experts, settings.expert_policy) == (("speech", "objects"), "refuse")
    devices = {name: value for name, value in settings if name.endswith("_device")}
    own = {"speech_device", "ocr_device", "objects_device", "detector_device", "decoder_device"}
    assert {name for name, value in devices.items() if value == "cuda"} == own


def test_the_detector_and_the_models_decoder_are_no_folders_of_the_volume() -> None:
    settings = side_settings({"claim": "c", "detector": "owlv2", "objects": "detector"})
    assert (settings.objects, settings.expert_policy) == ("detector", "off")
    assert side_settings({"decoder": "model"}).decoder == "model"


def test_no_side_model_runs_by_default() -> None:
    assert not list(enabled(side_settings({})))


def test_keys_are_required_by_default() -> None:
    def environment(name: str) -> set[str]:
        pod = pods(rendered(name))[-1]
        return {each["name"] for each in pod["containers"][0]["env"]}

    assert "BINDSERVE_API_KEY_FILE" in environment("one-gpu")
    assert "BINDSERVE_NO_AUTH" not in environment("one-gpu")
    assert "BINDSERVE_NO_AUTH" in environment("demo-cpu")


def test_servers_and_cache_scale_separately() -> None:
    manifests = rendered("scaled")
    for part in ("server", "cache"):
        scaler = pick(manifests, "HorizontalPodAutoscaler", part)["spec"]
        assert scaler["scaleTargetRef"]["name"] == f"bs-{part}"
        assert "replicas" not in pick(manifests, "Deployment", part)["spec"]
    container = pick(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert "--tensor-parallel-size=2" in container["args"]


def test_encoders_scale_by_their_queue_and_share_their_state() -> None:
    manifests = rendered("encoders")
    (metric,) = pick(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"] == {
        "name": "bindserve_in_stage",
        "selector": {"matchLabels": {"stage": "embed"}},
    }
    # The server must have a metric with this name and this label value.
    assert IN_STAGE._name == "bindserve_in_stage"
    with stage("embed"):
        assert REGISTRY.get_sample_value(IN_STAGE._name, {"stage": "embed", "modality": ""}) == 1
    pod = pick(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "BINDSERVE_STATE_FOLDER", "value": "/state"} in container["env"]
    assert {"name": "state", "mountPath": "/state"} in container["volumeMounts"]
    flags = [each for each in container["args"] if each.startswith("--s")]
    # Raises an error if a flag is for the engine.
    encoder_flags.parse(Settings(model=Path("m"), vllm_args=tuple(flags)))
    assert "--enforce-eager" not in container["args"]


def test_only_servers_reach_the_cache() -> None:
    policy = pick(rendered("scaled"), "NetworkPolicy", "cache")["spec"]
    peers = policy["ingress"][0]["from"]
    labels = [p["podSelector"]["matchLabels"] for p in peers if "podSelector" in p]
    assert [each["app.kubernetes.io/component"] for each in labels] == ["server"]
    assert policy["egress"] == []


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "latest"}},
        {"server": {"replicas": 0}},
        {"server": {"gpus": 3}},
        {"server": {"setings": {}}},
        {"server": {"settings": {"host": "0.0.0.0"}}},
        {"model": {"subPath": "../other"}},
        {"auth": {"secret": "Not A Name"}},
        {"cache": {"enabled": True}},
        {"sides": {"detector": "owlv2"}},  # no claim
        {"sides": {"claim": "c", "detector": "../owlv2"}},
        {"sides": {"experts": ["smell"]}},
        {"sides": {"device": "tpu"}},
    ],
    ids=json.dumps,
)
def test_wrong_values_are_rejected(values: Manifest) -> None:
    with pytest.raises(helm.HelmError):
        render(values)


@pytest.mark.skipif(which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    rule = pick(rendered("one-gpu"), "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_compiled_kernels_survive_a_pod_if_there_is_a_claim() -> None:
    def mounts(manifests: list[Manifest]) -> list[str]:
        pod = pick(manifests, "Deployment")["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= volumes
        return [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]

    assert "/cache/compiled" not in mounts(rendered("one-gpu"))
    assert "/cache/compiled" in mounts(render({"server": {"compiledClaim": "kernels"}}))
