"""The kind of index that is chosen for a number of rows, a dimension, a memory and a device."""

import pytest

from cache_index.errors import CacheError
from cache_index.kinds import Target, cells, check_kind, choose_kind, parts

GB = 10**9


@pytest.mark.parametrize(
    ("count", "target", "memory", "kind"),
    [
        (2_000, "cpu", 1 * GB, "Flat"),
        (1_000_000, "cpu", 1 * GB, "IVF1024,PQ256x4fs"),
        (3_000_000, "gpu", 7 * GB, "Flat"),  # in float16, the rows need 6 GB
        (3_000_000, "gpu", 4 * GB, "IVF8192,SQ8"),
        (3_000_000, "gpu", 2 * GB, "IVF8192,PQ64"),
    ],
)
def test_kind_by_budget(count: int, target: Target, memory: float, kind: str) -> None:
    assert choose_kind(count, 1024, target=target, memory=int(memory)) == kind


@pytest.mark.parametrize("memory", [10**8, 10**9, 3 * 10**9, 10**11])
def test_a_gpu_never_gets_what_it_cannot_hold(memory: int) -> None:
    kind = choose_kind(1_000_000, 1024, target="gpu", memory=memory)
    assert check_kind(kind, 1024, target="gpu") == kind
    with pytest.raises(CacheError, match="no GPU index"):
        check_kind(choose_kind(1_000_000, 1024), 1024, target="gpu")


def test_few_dimensions_get_two_bits_each() -> None:
    kinds = [choose_kind(100_000, dimension) for dimension in (128, 256, 320, 512, 768)]
    assert kinds == [f"IVF256,PQ{codes}x4fs" for codes in (64, 128, 80, 128, 192)]


@pytest.mark.parametrize("dimension", [2, 9, *range(4, 2049, 4)])
def test_what_is_chosen_can_be_built(dimension: int) -> None:
    check_kind(choose_kind(100_000, dimension), dimension)


def test_a_gpu_needs_a_number_and_a_cpu_does_not() -> None:
    assert choose_kind(100_000, 8) == "IVF256,PQ4x4fs"
    with pytest.raises(CacheError, match="the size of the GPU memory for the index is missing"):
        choose_kind(100_000, 8, target="gpu")


def test_cells() -> None:
    assert [cells(n) for n in (20_000, 100_000, 1_000_000, 3_000_000)] == [512, 1024, 4096, 8192]


@pytest.mark.parametrize(("dimension", "number"), [(1024, 64), (768, 96), (40, 4), (24, 4)])
def test_parts(dimension: int, number: int) -> None:
    assert parts(dimension) == number


def test_no_parts() -> None:
    with pytest.raises(CacheError, match="37 dimensions"):
        parts(37)


@pytest.mark.parametrize(
    "kind",
    [
        "HNSW32",
        "IVF64",
        "OPQ8,IVF64,PQ8",
        "flat",
        "IVF64,PQ7",
        "IVF64,PQ0",
        "IVF64,PQ128",
        "IVF64,PQ3x4fs",
        "IVF64,RaBitQ",
        "PQ8",
        "",
    ],
)
def test_kinds_that_are_refused(kind: str) -> None:
    with pytest.raises(CacheError, match=r"kind|divide|no GPU"):
        check_kind(kind, 1024)
