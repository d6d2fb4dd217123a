"""Write tensors to safetensors files one after the other, so that only one is in memory.

The library's own `save_file` wants all of them at once. The format: eight bytes of header length,
a JSON header with each tensor's type, shape and byte range, then the bytes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from model_ext.convert.tensors import LazyTensor

DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
LARGEST_FILE = 4 << 30  # bytes

Progress = Callable[[int], object]


def write_model(
    folder: Path, tensors: Iterable[LazyTensor], progress: Progress, largest: int = LARGEST_FILE
) -> None:
    """`model-0000x-of-0000n.safetensors` and the index that says which tensor is where."""
    files = split(tensors, largest)
    names = [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    for name, part in zip(names, files, strict=True):
        write_file(folder / name, part, progress)
    index = {
        "metadata": {"total_size": sum(lazy.nbytes for part in files for lazy in part)},
        "weight_map": {
            lazy.name: name for name, part in zip(names, files, strict=True) for lazy in part
        },
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def split(tensors: Iterable[LazyTensor], largest: int) -> list[list[LazyTensor]]:
    files: list[list[LazyTensor]] = [[]]
    size = 0
    for lazy in tensors:
        if files[-1] and size + lazy.nbytes > largest:
            files.append([])
            size = 0
        files[-1].append(lazy)
        size += lazy.nbytes
    return files


def write_file(path: Path, tensors: Sequence[LazyTensor], progress: Progress) -> None:
    # Wide types first keeps every tensor aligned, whatever the number of elements before it.
    tensors = sorted(tensors, key=lambda lazy: -lazy.dtype.itemsize)
    with path.open("wb") as file:
        file.write(header(tensors))
        for lazy in tensors:
            tensor = lazy.load()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            progress(lazy.nbytes)


def header(tensors: Sequence[LazyTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for lazy in tensors:
        end = start + lazy.nbytes
        entries[lazy.name] = {
            "dtype": DTYPES[lazy.dtype],
            "shape": list(lazy.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
