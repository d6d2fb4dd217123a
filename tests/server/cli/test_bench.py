"""The commands `bindserve bench`. tests/model_ext/bench test the measurements themselves."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from model_ext.bench import encoders, full_size
from model_ext.imagebind.config import AudioConfig, ImageBindConfig
from server.cli.bench import app
from tests.model_ext.bench.test_full_size import SMALL


def test_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(blocks: int, encoder: str) -> ImageBindConfig:
        assert encoder == "audio"
        return ImageBindConfig(audio=AudioConfig(width=16, blocks=blocks, heads=2))

    monkeypatch.setattr(encoders, "config", small)
    result = CliRunner().invoke(
        app, ["encoders", "--pairs", "2", "--clients", "3", "--modality", "audio"]
    )
    assert result.exit_code == 0, result.output
    assert "threads, float32" in result.stdout
    assert "audio: 229 tokens, width 16, 2 blocks, 3 files" in result.stdout
    assert result.stdout.count("(2 pairs)") == 3


def test_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size.Sizes, "released", lambda: SMALL)
    result = CliRunner().invoke(app, ["full-size", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"--llama {tmp_path / 'llama' / '7B'}" in result.stdout
    assert (tmp_path / "7B.pth").is_file()


def test_no_room_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["full-size", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["encoders", "--pairs", "1"],
        ["full-size"],
        ["engine"],
        ["engine", "--out", "nowhere", "--load", "decode-256"],
        ["throughput"],
        ["start-up"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="this test needs a machine without a GPU")
@pytest.mark.parametrize(
    "command",
    [
        ["encoders"],
        ["engine", "--out", "x"],
        ["throughput", "--out", "x"],
        ["start-up", "--out", "x"],
    ],
)
def test_no_gpu(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--device", "cuda"])
    assert result.exit_code == 2
    assert "--device cuda: torch finds no GPU" in result.stderr


def test_cache(tmp_path: Path) -> None:
    command = ["cache", "--rows", "2000", "--dimension", "16", "--kind", "IVF16,SQ8", "--pairs"]
    more = ["--folder", str(tmp_path / "c"), "--plot", str(tmp_path / "p.png")]
    result = CliRunner().invoke(app, [*command, "2", *more])
    assert result.exit_code == 0, result.output
    assert "2000 x 16, IVF16,SQ8" in result.stdout
    assert "(with one visited cell: 0." in result.stdout
    assert "| exact, batched / one by one |" in result.stdout
    assert "p99" in result.stdout
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_cache_scaling(tmp_path: Path) -> None:
    sizes = ["--rows", "3000", "--rows", "1000", "--dimension", "16"]
    more = ["--folder", str(tmp_path), "--plot", str(tmp_path / "p.svg")]
    result = CliRunner().invoke(app, ["cache-scaling", *sizes, *more])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[-2:]
    assert (first.startswith("| 1,000 | Flat (exact) | 1.0"), "| 3,000 |" in second) == (True, True)
    assert (tmp_path / "p.svg").is_file()
