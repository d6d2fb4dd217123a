"""Opening a checkpoint does not run code that the file contains."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch

from model_ext.convert.pickles import open_pickle
from model_ext.weights.errors import ConvertError


class Bomb:
    """An object that creates a file when Python unpickles the object."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old-format"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"a": torch.zeros(1), "b": Bomb(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConvertError, match=r"evil\.pth: rejected.*no code was run"):
        open_pickle(path)
    assert not trace.exists()


def test_the_bomb_would_go_off_in_an_ordinary_loader(tmp_path: Path) -> None:
    """To check that the test can fail: torch.load with weights_only=False runs the code in the
    file.
    """
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"b": Bomb(trace)}, path)
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ConvertError, match=r"evil\.pth"):
        open_pickle(path)
    assert not trace.exists()


def test_flat_and_wrapped_tensors(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    for content in (tensors, {"model": tensors}, {"model": tensors, "config": {"x": 1}}):
        torch.save(content, tmp_path / "x.pth")
        assert open_pickle(tmp_path / "x.pth").keys() == {"a", "b"}


def test_old_format_without_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(open_pickle(path)["a"].load(), torch.ones(2))


def test_training_checkpoint_with_its_command_line(tmp_path: Path) -> None:
    """The converter reads training checkpoints, which contain an argparse.Namespace and more."""
    path = tmp_path / "checkpoint-3.pth"
    content = {
        "model": {"a": torch.ones(2)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 3,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(batch_size=4, output_dir="out"),
    }
    torch.save(content, path)
    assert torch.equal(open_pickle(path)["a"].load(), torch.ones(2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "holds a list"),
        ({"a": 1}, "'a' is a int"),
        ({1: torch.ones(1)}, "1 is a Tensor"),
        ({"a": torch.eye(2).to_sparse()}, "a is sparse"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(ConvertError, match=rf"x\.pth: .*{reason}"):
        open_pickle(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(ConvertError, match=r"x\.pth"):
        open_pickle(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"gone\.pth: no such file"):
        open_pickle(tmp_path / "gone.pth")
