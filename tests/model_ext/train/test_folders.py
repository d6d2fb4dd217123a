"""Imports between the subfolders of model_ext/train go in one direction only."""

from pathlib import Path

import pytest

from tests.test_layers import FILES, imports

TRAIN = Path("model_ext/train")
# For each subfolder, the subfolders that its modules may import.
ALLOWED = {
    **{"lm": set[str](), "data": {"lm"}, "loop": set[str](), "encoders": {"loop"}},
    **{"decoder": {"encoders", "loop"}, "detector": {"encoders", "loop"}},
}


@pytest.mark.parametrize("subfolder", ALLOWED)
def test_a_subfolder_imports_only_allowed_subfolders(subfolder: str) -> None:
    files = [path for path in FILES if path.is_relative_to(TRAIN / subfolder)]
    names = {name for path in files for name in imports(path)}
    imported = {
        other for other in ALLOWED for name in names if f"{name}.".startswith(prefix(other))
    }
    assert files
    assert imported - {subfolder} <= ALLOWED[subfolder]


def test_every_subfolder_is_listed() -> None:
    assert {path.parts[2] for path in FILES if path.parent.parent == TRAIN} == set(ALLOWED)


def prefix(subfolder: str) -> str:
    return ".".join((*TRAIN.parts, subfolder, ""))
