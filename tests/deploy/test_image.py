"""The Dockerfile passes hadolint and copies only files that exist in the build context."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="of the extra `test`")
def test_the_linter_reports_nothing() -> None:
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_copied_files_are_in_the_context() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    copied = {source for line in copies for source in line.split()}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_executable_and_have_valid_syntax(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", script], check=True)


def test_compile_caches_are_in_the_volume() -> None:
    text = DOCKERFILE.read_text()
    for variable in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "HOME", "TMPDIR"):
        (folder,) = re.findall(rf"^(?:ENV)? +{variable}=(\S+)", text, re.MULTILINE)
        assert Path(folder).is_relative_to("/cache")
    assert "VOLUME /cache\n" in text
