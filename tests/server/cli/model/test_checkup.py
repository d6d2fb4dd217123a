"""Each check of `bindserve doctor` passes on a good model, and detects a damaged model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from server.cli.model import checkup
from server.cli.model.checkup import Check, Checkup, run_check
from server.cli.model.doctor import doctor
from server.settings import Settings

WEIGHTS = "model-00001-of-00001.safetensors"
Copy = Callable[[], Path]


@pytest.fixture
def copy(tiny_models: dict[str, Path], tmp_path: Path) -> Copy:
    def make() -> Path:
        return Path(shutil.copytree(tiny_models["finetune"], tmp_path / "model"))

    return make


def run(check: Check, folder: Path, **settings: Any) -> tuple[str, str]:
    finding = run_check("x", check, Checkup(Settings(model=folder, **settings)))
    return finding.verdict, finding.text


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


CHECKS: dict[str, Check] = {
    "config": checkup.config,
    "files": checkup.files,
    "provenance": checkup.provenance,
    "tokenizer": checkup.tokenizer,
    "encoders": checkup.encoders,
    "golden": checkup.golden_plain,
}


@pytest.mark.parametrize("name", ["finetune", "pretrain", "legacy"])
@pytest.mark.parametrize("check", CHECKS)
def test_intact_models(tiny_models: dict[str, Path], name: str, check: str) -> None:
    verdict, text = run(CHECKS[check], tiny_models[name])
    assert verdict == "ok", text
    assert text
    assert "\n" not in text


def test_a_broken_configuration(copy: Copy) -> None:
    folder = copy()
    edit(folder, "config.json", lambda config: config["injection"].update(layers=3))
    verdict, text = run(checkup.config, folder)
    assert (verdict, "injection.first_layer + layers is 4" in text) == ("FAIL", True)


def test_a_flipped_bit(copy: Copy) -> None:
    folder = copy()
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    verdict, text = run(checkup.files, folder)
    assert (verdict, text.split(";")[0]) == ("FAIL", f"{WEIGHTS} has another sha256")


def test_a_file_that_is_not_in_the_manifest(copy: Copy) -> None:
    """A safetensors file that is not in the manifest is an error, because vLLM would load it."""
    folder = copy()
    save_file({"x": torch.zeros(1)}, folder / "more.safetensors")
    verdict, text = run(checkup.files, folder)
    assert (verdict, text) == (
        "FAIL",
        "more.safetensors is not in manifest.json, but would be loaded; remove it",
    )


def test_checks_without_recorded_values_are_skipped(copy: Copy) -> None:
    folder = copy()
    (folder / "manifest.json").unlink()
    (folder / "golden.json").unlink()
    for check in (checkup.files, checkup.tokenizer, checkup.golden_plain, checkup.golden_engine):
        verdict, text = run(check, folder)
        assert verdict == "skip"
        assert "no golden.json" in text or "no manifest.json" in text
    assert run(checkup.encoders, folder)[0] == "ok"


def test_another_tokenizer(copy: Copy) -> None:
    folder = copy()
    edit(folder, "tokenizer.json", lambda content: content["model"].update(merges=[]))
    assert run(checkup.tokenizer, folder)[0] == "FAIL"


def test_other_encoders(copy: Copy) -> None:
    folder = copy()
    path = folder / "encoders" / "model.safetensors"
    tensors = load_file(path)
    tensors["vision.head.norm.weight"] *= 2
    save_file(tensors, path)
    verdict, text = run(checkup.encoders, folder)
    assert (verdict, text.split(":")[0]) == ("FAIL", "vision")
    tensors["vision.head.norm.weight"] *= float("inf")
    save_file(tensors, path)
    assert "is not finite" in run(checkup.encoders, folder)[1]
    save_file({**tensors, "smell.weight": torch.zeros(1)}, path)
    assert "unknown encoder smell" in run(checkup.encoders, folder)[1]
    save_file({name: t for name, t in tensors.items() if "imu.head" not in name}, path)
    verdict, text = run(checkup.encoders, folder)
    assert (verdict, "missing ImageBind tensors: imu.head" in text) == ("FAIL", True)


def test_encoders_that_config_json_does_not_list(copy: Copy) -> None:
    folder = copy()
    edit(folder, "config.json", lambda config: config["imagebind"].update(modalities=["vision"]))
    assert "contains other encoders than config.json lists" in run(checkup.encoders, folder)[1]


def test_other_answers(copy: Copy) -> None:
    folder = copy()
    tensors = load_file(folder / WEIGHTS)
    tensors["injection.gate"] *= 0.5
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    verdict, text = run(checkup.golden_plain, folder)
    assert (verdict, text.startswith("prompt 1, step 1: ")) == ("FAIL", True)


def test_no_provenance(copy: Copy) -> None:
    folder = copy()
    edit(folder, "config.json", lambda config: config["provenance"].update(sources=[]))
    assert run(checkup.provenance, folder)[0] == "skip"


def test_caches(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    model = tiny_models["finetune"]
    assert run(checkup.cache, model)[0] == "skip"
    verdict, text = run(checkup.cache, model, cache=str(tiny_models["knn.index"]))
    assert verdict == "ok"
    assert "features of unrecorded encoders" in text
    assert run(checkup.cache, model, cache="none")[0] == "skip"
    assert run(checkup.cache, model, cache=str(tmp_path))[0] == "FAIL"

    cache = tmp_path / "cache"
    shutil.copytree(tiny_models["knn.index"], cache)
    sources = json.loads((model / "config.json").read_text())["provenance"]["sources"]
    (own,) = (s["sha256"] for s in sources if s["file"] == "imagebind_w3D.pth")
    edit(cache, "manifest.json", lambda manifest: manifest.update(encoder={"sha256": own}))
    verdict, text = run(checkup.cache, model, cache=str(cache))
    assert (verdict, "features of the model's encoders" in text) == ("ok", True)
    edit(cache, "manifest.json", lambda manifest: manifest.update(encoder={"sha256": "0" * 64}))
    verdict, text = run(checkup.cache, model, cache=str(cache))
    assert (verdict, "another encoder" in text) == ("FAIL", True)
    (cache / "vectors.npy").write_bytes(b"damaged")
    assert run(checkup.cache, model, cache=str(cache))[0] == "FAIL"


def invoke(*arguments: object) -> tuple[int, list[str]]:
    app = typer.Typer()
    app.command()(doctor)
    # `doctor` sets this environment variable. CliRunner restores the variable after the command.
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR"}
    result = CliRunner(env=quiet).invoke(app, [*map(str, arguments)])
    return result.exit_code, result.stdout.splitlines()


@pytest.mark.engine
def test_the_command(tiny_models: dict[str, Path], copy: Copy) -> None:
    """The command prints one line per check, in order. The exit code is 1 if a check fails."""
    code, lines = invoke(tiny_models["finetune"], "--through", "plain")
    assert [line.split()[:2] for line in lines] == [
        *(["ok", name] for name in ("config", "files", "tensors", "provenance")),
        *(["ok", "tokenizer"], ["ok", "encoders"], ["skip", "cache"], ["ok", "golden"]),
    ]
    assert code == 0
    folder = copy()
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.self_attn.k_proj.bias"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    code, lines = invoke(folder, "--through", "plain")
    assert code == 1
    failed = {line.split()[1] for line in lines if line.startswith("FAIL")}
    assert {"files", "tensors"} <= failed
    assert len(lines) == 8


def test_the_checks_stop_without_a_configuration(copy: Copy) -> None:
    folder = copy()
    (folder / "config.json").write_text("{")
    code, (line,) = invoke(folder)
    assert (code, line.startswith("FAIL  config")) == (1, True)


@pytest.mark.engine
def test_recorded_answers_through_vllm(tiny_models: dict[str, Path]) -> None:
    """By default, `doctor` runs the engine in the dtype that `serve` uses on this processor."""
    verdict, text = run(checkup.golden_engine, tiny_models["finetune"])
    assert verdict == "ok", text
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    precision = "bfloat16 (within 0.3)" if fast else "float32 (within 0.002)"
    assert text == f"2 prompts answered as recorded, by vLLM in {precision}"
