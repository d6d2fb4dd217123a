"""Write tensors to safetensors files, with one tensor in memory at a time.

The function `save_file` of the safetensors library would need all tensors in memory. A safetensors
file contains the length of the header (eight bytes), a JSON header with the type, shape and byte
range of each tensor, and the bytes of the tensors.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import torch

from model_ext.manifest import Progress
from model_ext.weights.ledger import Ledger
from model_ext.weights.tensors import LazyTensor

DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
INDEX = "model.safetensors.index.json"
# Default of the maximum bytes of a file, as in `save_pretrained` of `transformers`.
MAX_SHARD_SIZE = 5 * 10**9


def split(tensors: Iterable[LazyTensor], max_shard_size: int) -> dict[str, list[LazyTensor]]:
    """Assign tensors to shards: file name -> tensors. A tensor larger than `max_shard_size` gets
    its own shard.
    """
    shards: list[list[LazyTensor]] = [[]]
    size = 0
    for lazy in tensors:
        if shards[-1] and size + lazy.nbytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(lazy)
        size += lazy.nbytes
    count = len(shards)
    return {f"model-{i:05d}-of-{count:05d}.safetensors": s for i, s in enumerate(shards, 1)}


def write_model(ledger: Ledger, shards: dict[str, list[LazyTensor]], progress: Progress) -> None:
    """Write the shards, and the index that maps each tensor to its shard."""
    for name, shard in shards.items():
        ledger.write(name, content(shard), progress)
    index = {
        "metadata": {"total_size": sum(lazy.nbytes for shard in shards.values() for lazy in shard)},
        "weight_map": {lazy.name: name for name, shard in shards.items() for lazy in shard},
    }
    ledger.rewrite(INDEX, json.dumps(index, indent=2).encode() + b"\n")


def content(tensors: Sequence[LazyTensor]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of one file. Each tensor is read when its bytes are needed."""
    tensors = _aligned(tensors)
    yield header(tensors)
    for lazy in tensors:
        yield lazy.load().reshape(-1).view(torch.uint8).numpy().data


def size_of(tensors: Sequence[LazyTensor]) -> int:
    """The size in bytes of a file with these tensors."""
    return len(header(_aligned(tensors))) + sum(lazy.nbytes for lazy in tensors)


def _aligned(tensors: Sequence[LazyTensor]) -> list[LazyTensor]:
    """Sort tensors by the size of their dtype, largest first, so that every tensor is aligned."""
    return sorted(tensors, key=lambda lazy: -lazy.dtype.itemsize)


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
