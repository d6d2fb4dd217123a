"""Fixtures that copy small files in the released formats and change the copies."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_ext.convert.sources import Sources

TINY = Path(__file__).parents[2] / "fixtures" / "tiny"
Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], object]


@pytest.fixture
def sources() -> Sources:
    return Sources(
        llama=TINY / "llama" / "tiny",
        adapter=TINY / "adapter-finetune.pth",
        imagebind=TINY / "imagebind_w3D.pth",
    )


@pytest.fixture
def llama_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the base LLaMA and changes the tensors of the copy."""

    def make(change: Change, name: str = "base") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tensors = load(TINY / "llama" / "tiny" / "consolidated.00.pth")
        change(tensors)
        torch.save(tensors, folder / "consolidated.00.pth")
        params = TINY / "llama" / "tiny" / "params.json"
        (folder / "params.json").write_bytes(params.read_bytes())
        return folder

    return make


@pytest.fixture
def adapter_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies an adapter and changes the tensors of the copy."""

    def make(change: Change, source: str = "adapter-finetune.pth") -> Path:
        tensors = load(TINY / source)
        change(tensors)
        path = tmp_path / "adapter.pth"
        torch.save({"model": tensors}, path)
        return path

    return make


def load(path: Path) -> Tensors:
    content = torch.load(path, weights_only=True)
    tensors: Tensors = content.get("model", content)
    return tensors
