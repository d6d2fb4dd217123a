"""Tables that list the tensors of a checkpoint, and a strict comparison of a file with its table.

A row describes one tensor of each layer or block: its released name, its shape in letters, and its
name in the model's folder. `{i}` is the layer's number, `{j}` the number of a block of the bind
network, from 1 (`{k}` from 0).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor


class Row(NamedTuple):
    source: str
    # sizes, separated by spaces: numbers, or letters that the module with the table explains
    shape: str
    target: str


class Expected(NamedTuple):
    target: str
    shape: tuple[int, ...]


def expand(rows: tuple[Row, ...], sizes: Mapping[str, int]) -> dict[str, Expected]:
    """All tensors that a file must have. `sizes`: letter -> size; L layers, J bind blocks."""
    return {
        row.source.format(**numbers): Expected(
            row.target.format(**numbers),
            tuple(int(size) if size.isdigit() else sizes[size] for size in row.shape.split()),
        )
        for row in rows
        for numbers in _numbers(row.source, sizes)
    }


def _numbers(pattern: str, sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    if "{i}" in pattern:
        yield from ({"i": i} for i in range(sizes["L"]))
    elif "{j}" in pattern:
        yield from ({"j": j, "k": j - 1} for j in range(1, sizes["J"] + 1))
    else:
        yield {}


def check(expected: Mapping[str, Expected], tensors: Mapping[str, LazyTensor], file: Path) -> None:
    """Compare a file's tensors with the table.

    Raises ConvertError: when a tensor is missing or unknown, has a wrong shape, or has numbers that
    are not real.
    """
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ConvertError(f"{file}: missing {_names(missing)}")
    if unused := sorted(tensors.keys() - expected.keys()):
        raise ConvertError(f"{file}: has tensors that the model does not use: {_names(unused)}")
    for name, (_, shape) in expected.items():
        if tensors[name].shape != shape:
            raise ConvertError(f"{file}: {name} has shape {tensors[name].shape}, expected {shape}")
        if not tensors[name].dtype.is_floating_point:
            raise ConvertError(f"{file}: {name} holds {tensors[name].dtype}, expected real numbers")


def _names(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
