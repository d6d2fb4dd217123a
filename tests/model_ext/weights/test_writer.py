"""The safetensors library reads the files that model_ext/weights writes, with equal content."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from model_ext.manifest import Manifest
from model_ext.weights.ledger import Ledger
from model_ext.weights.tensors import LazyTensor
from model_ext.weights.writer import content, size_of, split, write_model


def stored(name: str, tensor: Tensor) -> LazyTensor:
    return LazyTensor(name, tuple(tensor.shape), tensor.dtype, lambda: tensor)


def some_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        # an odd number of float16 values, after which float32 values would not be aligned
        "half": torch.randn(3, 5).to(torch.float16),
        "whole": torch.randn(4, 2),
        "brain": torch.randn(7).to(torch.bfloat16),
        "count": torch.tensor(5),
        "none": torch.zeros(0, 3),
        "transposed": torch.randn(3, 4).T,
    }


def test_bytes_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = some_tensors()
    lazy = [stored(name, tensor) for name, tensor in tensors.items()]
    path.write_bytes(b"".join(content(lazy)))
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert path.stat().st_size == size_of(lazy)
    with safe_open(path, "pt") as file:
        # transformers rejects a safetensors file without this metadata.
        assert file.metadata() == {"format": "pt"}


def test_wide_types_come_first_so_that_all_are_aligned() -> None:
    written = b"".join(content([stored(name, t) for name, t in some_tensors().items()]))
    length = int.from_bytes(written[:8], "little")
    assert length % 8 == 0
    header = json.loads(written[8 : 8 + length])
    sizes = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % sizes[entry["dtype"]] == 0, name


def test_one_tensor_at_a_time() -> None:
    """The writer reads a tensor only after it has written and freed the previous tensor."""
    alive: set[str] = set()
    peak = 0

    class Tracked:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self) -> Tensor:
            nonlocal peak
            tensor = torch.zeros(8)
            alive.add(self.name)
            peak = max(peak, len(alive))
            return tensor

    lazy = [LazyTensor(f"t{i}", (8,), torch.float32, Tracked(f"t{i}")) for i in range(5)]
    for _ in content(lazy):
        alive.clear()  # the tensor has been written and freed
    assert peak == 1


def test_files_are_split_and_indexed(tmp_path: Path) -> None:
    # a tensor has 40 bytes, so that a file of at most 100 bytes contains two tensors
    tensors = [stored(f"t{i}", torch.full((10,), float(i))) for i in range(5)]
    ledger, seen = Ledger(tmp_path, Manifest("0" * 64)), []
    shards = split(tensors, max_shard_size=100)
    write_model(ledger, shards, seen.append)
    assert sum(seen) == sum(map(size_of, shards.values()))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 200
    assert index["weight_map"] == {
        "t0": "model-00001-of-00003.safetensors",
        "t1": "model-00001-of-00003.safetensors",
        "t2": "model-00002-of-00003.safetensors",
        "t3": "model-00002-of-00003.safetensors",
        "t4": "model-00003-of-00003.safetensors",
    }
    for name, file in index["weight_map"].items():
        assert load_file(tmp_path / file)[name][0] == int(name[1:])


def test_a_tensor_larger_than_a_file_gets_its_own() -> None:
    tensors = [stored(f"t{i}", torch.zeros(size)) for i, size in enumerate((1, 100, 1))]
    assert [len(part) for part in split(tensors, 40).values()] == [1, 1, 1]


def test_a_wrong_promise_is_noticed() -> None:
    lazy = LazyTensor("x", (3,), torch.float32, lambda: torch.zeros(4))
    with pytest.raises(AssertionError, match="x"):
        list(content([lazy]))
