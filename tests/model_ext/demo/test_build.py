"""Building the data: what is killed leaves no half file."""

from pathlib import Path

import pytest

from model_ext.demo.build_data import make


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """A half picture that stayed was once taken for a whole one by the next build."""
    sample = {"path": "cat.png"}

    def killed(path: Path) -> None:
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make((sample, killed), tmp_path)
    assert not (tmp_path / "cat.png").exists()
    make((sample, lambda path: path.write_text("whole") and None), tmp_path)
    assert (tmp_path / "cat.png").read_text() == "whole"
    make((sample, killed), tmp_path)  # is there already: not made again
