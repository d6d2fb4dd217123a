"""`bindserve convert` writes a model folder, or prints one line that describes the error."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from cache_index.manifest import read_manifest
from model_ext.config import BindServeConfig
from server.cli.model.convert import convert_command

TINY = Path(__file__).parents[3] / "fixtures" / "tiny"
APP = typer.Typer()
APP.command()(convert_command)


def run(out: Path, *more: str, adapter: Path = TINY / "adapter-finetune.pth") -> Result:
    arguments = ["--llama", str(TINY / "llama" / "tiny"), "--adapter", str(adapter)]
    arguments += ["--imagebind", str(TINY / "imagebind_w3D.pth"), "--out", str(out), *more]
    return CliRunner().invoke(APP, arguments)


def config_of(folder: Path) -> BindServeConfig:
    return BindServeConfig.from_hf(json.loads((folder / "config.json").read_text()))


def test_sources_and_licences_are_reported(tmp_path: Path) -> None:
    result = run(tmp_path / "tiny", "--llama-licence", "Apache-2.0", "--dtype", "float16")
    assert result.exit_code == 0, result.output
    assert "finetune weights" in result.stdout
    for source in config_of(tmp_path / "tiny").provenance.sources:
        line = next(line for line in result.stdout.splitlines() if source.file in line)
        assert source.sha256[:12] in line
        assert source.licence in line
    assert "Apache-2.0" in result.stdout
    assert "CC-BY-NC-SA 4.0" in result.stdout
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["dtype"] == "float16"


def test_legacy_weights_are_reported(tmp_path: Path) -> None:
    result = run(tmp_path / "tiny", adapter=TINY / "adapter-legacy-bridge.pth")
    assert "pretrain weights (legacy bind network)" in result.stdout


@pytest.mark.parametrize("name", ["knn.index", "knn-ivf.index"])
def test_the_released_index_becomes_the_default_cache(tmp_path: Path, name: str) -> None:
    result = run(tmp_path / "tiny", "--knn-index", str(TINY / name))
    assert result.exit_code == 0, result.output
    config = config_of(tmp_path / "tiny")
    assert config.cache.folder == "cache"
    manifest = read_manifest(tmp_path / "tiny" / "cache")
    assert manifest.dimension == 40
    encoders = {s.sha256 for s in config.provenance.sources if s.file == "imagebind_w3D.pth"}
    assert {manifest.encoder["sha256"]} == encoders


def test_a_conversion_resumes_after_an_index_of_another_width(tmp_path: Path) -> None:
    index = faiss.IndexFlatIP(64)
    index.add(np.eye(64, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "wide.index"))
    out = tmp_path / "out" / "tiny"
    result = run(out, "--knn-index", str(tmp_path / "wide.index"))
    assert result.exit_code == 1
    assert "vectors of 64 numbers, but the encoders' embeddings have 40" in result.stderr
    assert "run the same command again to resume" in result.stderr
    assert not out.exists()
    shard = tmp_path / "out" / ".tiny.partial" / "model-00001-of-00001.safetensors"
    written = shard.stat().st_ino
    result = run(out, "--knn-index", str(TINY / "knn.index"))
    assert result.exit_code == 0, result.output
    assert (out / shard.name).stat().st_ino == written
    assert read_manifest(out / "cache").dimension == 40
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


def test_shards_have_the_maximum_size(tmp_path: Path) -> None:
    result = run(tmp_path / "tiny", "--max-shard-size", "1MB")
    assert result.exit_code == 0, result.output
    shards = sorted((tmp_path / "tiny").glob("model-*.safetensors"))
    assert len(shards) > 2
    assert max(path.stat().st_size for path in shards) < 1_100_000


def test_a_wrong_size_is_a_usage_error(tmp_path: Path) -> None:
    result = run(tmp_path / "tiny", "--max-shard-size", "five")
    assert result.exit_code == 2
    assert "'five' is not a size" in result.stderr


def test_an_interrupted_conversion_prints_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("server.cli.model.conversion.import_index", interrupt)
    result = run(tmp_path / "tiny", "--knn-index", str(TINY / "knn.index"))
    assert result.exit_code == 1
    assert "error: interrupted\n" in result.stderr
    partial = tmp_path / ".tiny.partial"
    hint = f"(finished files are in {partial}; run the same command again to resume)"
    assert hint in result.stderr


def test_an_error_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "tiny", adapter=tmp_path / "gone.pth")
    assert result.exit_code == 1
    assert result.stderr.strip() == f"error: {tmp_path / 'gone.pth'}: no such file"
    assert not (tmp_path / "tiny").exists()


def test_a_missing_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(APP, ["--out", "x"]).exit_code == 2


@pytest.mark.parametrize(
    "option",
    [
        *("--delta=x", "--dtype=float16", "--max-shard-size=1MB", "--golden", "--no-golden"),
        *("--llama-licence=x", "--adapter-licence=x", "--tokenizer=x"),
    ],
)
def test_encoders_alone_take_no_options_of_a_language_model(option: str, tmp_path: Path) -> None:
    """Regression: these options were accepted, but had no effect."""
    arguments = ["--imagebind", str(TINY / "imagebind_w3D.pth"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(APP, [*arguments, option])
    assert result.exit_code == 2
    assert "is only for a language model, with --llama and --adapter" in result.stderr
    assert not (tmp_path / "out").exists()
