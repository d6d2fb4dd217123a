"""Fixtures that several rooms share."""

from pathlib import Path

import pytest

TINY = Path(__file__).parent / "fixtures" / "tiny"


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fixtures' checkpoints as model folders, their two indexes as cache folders."""
    raise NotImplementedError
