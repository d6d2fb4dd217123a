"""The command line `bindserve`. Each command runs in a new process."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = ("serve", "demo", "convert", "embed", "cache", "doctor", "eval", "bench")


def bindserve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli.main", *arguments],
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_lists_every_command_and_is_fast() -> None:
    started = time.monotonic()
    result = bindserve("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert command in result.stdout
    assert time.monotonic() - started < 5  # Importing vLLM takes longer than 5 s.


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"], ["convert"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    arguments = ["bindserve", *command, "--help"]
    code = (
        f"import sys\nfrom server.cli.main import main\nsys.argv = {arguments}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'vllm', 'torch', 'numpy', 'faiss'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == "set()"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = bindserve(command, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bogus",), "bogus"),
        (("serve",), "model"),
        (("serve", "nowhere"), "nowhere: not a model folder"),
        (("serve", "nowhere", "--port", "many"), "--port"),
        (("serve", "nowhere", "--port", "70000"), "port"),
        (("serve", "nowhere", "--allow-field", "messages"), "allow_fields"),
        (("serve", "nowhere", "--config", "none.yaml"), "none.yaml"),
        (("cache", "build"), "source"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_reason(arguments: tuple[str, ...], message: str) -> None:
    result = bindserve(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_environment_ends_with_2() -> None:
    result = bindserve("serve", "nowhere", BINDSERVE_PORT="many")
    assert (result.returncode, result.stderr.startswith("error: port:")) == (2, True)


def test_failure_ends_with_1(tmp_path: Path) -> None:
    result = bindserve("cache", "info", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_cache_is_built_and_inspected(tmp_path: Path) -> None:
    import json

    import numpy as np

    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "features.npy", rows)
    out = tmp_path / "cache"
    result = bindserve("cache", "build", str(tmp_path / "features.npy"), "--out", str(out))
    assert (result.returncode, "50 vectors of 8 numbers" in result.stdout) == (0, True)
    result = bindserve("cache", "info", str(out))
    assert json.loads(result.stdout)["count"] == 50
    (out / "vectors.npy").write_bytes(b"damaged")
    assert bindserve("cache", "info", str(out)).returncode == 1
