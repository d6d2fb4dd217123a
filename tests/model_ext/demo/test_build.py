"""An interrupted build of the demonstration's data leaves no incomplete file."""

from pathlib import Path

import pytest

from model_ext.demo.build_data import make


def test_an_interrupted_writer_leaves_no_file(tmp_path: Path) -> None:
    """Regression: an interrupted build left an incomplete picture, which the next build used."""
    sample = {"path": "cat.png"}

    def interrupted(path: Path) -> None:
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make((sample, interrupted), tmp_path)
    assert not (tmp_path / "cat.png").exists()
    make((sample, lambda path: path.write_text("whole") and None), tmp_path)
    assert (tmp_path / "cat.png").read_text() == "whole"
    make((sample, interrupted), tmp_path)  # `make` must not write an existing file again
