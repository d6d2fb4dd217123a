"""A table of checkpoint names, and the strict comparison of a file with it.

A row is one kind of tensor: its released name, its shape in letters, its name in our folder.
`{i}` is a layer's number, `{j}` counts the bind network's blocks from 1 (`{k}` from 0).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor


class Row(NamedTuple):
    source: str
    shape: str  # letters of the reader's legend, space-separated; a number stands for itself
    target: str


class Expected(NamedTuple):
    target: str
    shape: tuple[int, ...]


def expand(rows: tuple[Row, ...], sizes: Mapping[str, int]) -> dict[str, Expected]:
    """Every name that a file must hold. `sizes` gives the letters; L layers, J bind blocks."""
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


def check(expected: Mapping[str, Expected], found: Mapping[str, LazyTensor], file: Path) -> None:
    """Both ways: nothing missing, nothing left over; every shape as expected, all real numbers."""
    if missing := sorted(expected.keys() - found.keys()):
        raise ConvertError(f"{file}: missing {_names(missing)}")
    if left_over := sorted(found.keys() - expected.keys()):
        raise ConvertError(f"{file}: left over, since nothing here uses it: {_names(left_over)}")
    for name, (_, shape) in expected.items():
        if found[name].shape != shape:
            raise ConvertError(f"{file}: {name} has shape {found[name].shape}, expected {shape}")
        if not found[name].dtype.is_floating_point:
            raise ConvertError(f"{file}: {name} holds {found[name].dtype}, expected real numbers")


def _names(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
