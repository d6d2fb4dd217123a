"""The project's files that git tracks."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "model_ext", "cache_index", "deploy", "tests/deploy", "tests/serving")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in tracked(package) if path.suffix == ".py"]


def tracked(folder: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", folder]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]
