"""The choice between CPU and GPU for a search.

The tests use a fake of FAISS's GPU index, which has the same limits.
"""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from cache_index import device
from cache_index.device import (
    Device,
    Placement,
    max_candidates,
    max_cells,
    name_of,
    place,
    place_faiss,
    planned_gpu_bytes,
)
from cache_index.enhance import Array, CacheParams, enhance
from cache_index.errors import CacheError
from cache_index.exact import ExactIndex, resident_bytes
from cache_index.index import CacheIndex
from cache_index.manifest import SearchSettings, read_manifest
from cache_index.searcher import Searcher
from cache_index.vectors import Ids, Vectors

ROWS = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)


class GpuIndexIVFScalarQuantizer:
    """A fake GPU index. It searches on the CPU, and fails where FAISS's GPU index would fail."""

    def __init__(self, index: Any, nlist: int | None = None) -> None:
        self._index = index
        self.d, self.nlist = index.d, nlist or index.nlist
        self.nprobe = 1

    def search(self, queries: Array, k: int) -> tuple[Array, Ids]:
        assert k <= 512  # FAISS's GPU index aborts the process for a larger k
        assert self.nprobe <= 2048
        self._index.nprobe = min(self.nprobe, self._index.nlist)
        found: tuple[Array, Ids] = self._index.search(queries, k)
        return found


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Fakes of FAISS's GPU functions, which record their arguments."""
    calls = SimpleNamespace(options=None, fail=False)

    def to_gpu(resources: object, device: int, index: Any, options: Any) -> Any:
        if calls.fail:
            raise RuntimeError("out of memory")
        if index.nprobe > 2048:
            raise RuntimeError("nprobe must be <= 2048")
        calls.options = (device, options.useFloat16, options.use_cuvs)
        calls.resources = resources
        return GpuIndexIVFScalarQuantizer(index)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    for name, value in (
        ("GpuClonerOptions", SimpleNamespace),
        ("StandardGpuResources", SimpleNamespace),
        ("index_cpu_to_gpu", to_gpu),
    ):
        monkeypatch.setattr(faiss, name, value, raising=False)
    return calls


def built(kind: str) -> Any:
    index: Any = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(ROWS)
    index.add(ROWS)
    return index


def test_the_first_gpu_takes_it(gpu: SimpleNamespace) -> None:
    placed = place_faiss(built("IVF8,SQ8"))
    assert isinstance(placed, GpuIndexIVFScalarQuantizer)
    assert gpu.options == (0, True, False)
    assert placed.referenced_objects == [gpu.resources]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("gpu")
def test_an_index_that_was_saved_with_more_cells_than_a_gpu_visits() -> None:
    """Regression: FAISS did not copy an index with a large nprobe to the GPU, and the program
    reported a lack of memory.
    """
    index = built("IVF8,SQ8")
    index.nprobe = 4096
    assert isinstance(place_faiss(index), GpuIndexIVFScalarQuantizer)


@pytest.mark.parametrize("why", ["kind", "memory"])
def test_what_no_gpu_takes_is_searched_on_the_cpu(
    gpu: SimpleNamespace, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail = why == "memory"
    index = built("IVF8,PQ4x4fs" if why == "kind" else "IVF8,SQ8")
    with caplog.at_level(logging.WARNING):
        assert place_faiss(index) is index
    assert "on the CPU" in caplog.text


def test_without_a_gpu_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    index = built("IVF8,SQ8")
    assert place(index, ROWS, Placement()) is index
    assert not caplog.records


def test_a_gpu_is_never_asked_for_more_than_it_gives() -> None:
    index = built("IVF8,SQ8")
    on_gpu = Searcher(GpuIndexIVFScalarQuantizer(index), Vectors(ROWS))
    on_cpu = Searcher(built("IVF8,SQ8"), Vectors(ROWS))
    for searcher in (on_gpu, on_cpu):
        searcher.apply(SearchSettings(nprobe=8, refine=8))
    queries = ROWS[:3] + 0.1
    for top_k in (10, 64):
        assert np.array_equal(on_gpu.search(queries, top_k).ids, on_cpu.search(queries, top_k).ids)
    few = on_gpu.search(queries, 1000)
    assert few.hit.sum(axis=1).tolist() == [512] * 3  # all other entries of the result are empty
    params = [CacheParams(top_k=1000)] * 3
    enhanced = enhance(queries, few.similarity, few.hit, few.vectors, params)
    assert np.isfinite(enhanced).all()
    many = GpuIndexIVFScalarQuantizer(index, nlist=8192)
    Searcher(many, Vectors(ROWS)).apply(SearchSettings(nprobe=5000))
    assert many.nprobe == 2048


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A fake GPU with `free` bytes of free memory. Exact searches run on torch's CPU device."""
    card = SimpleNamespace(free=1 << 30)
    load = ExactIndex.load
    monkeypatch.setattr(device, "NVIDIA_DRIVER", "/dev/null")
    monkeypatch.setattr(device, "free_gpu_bytes", lambda: card.free)
    monkeypatch.setattr(ExactIndex, "load", lambda rows, _: load(rows, "cpu"))
    return card


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("kind", ["Flat", "IVF8,SQ8", "IVF8,PQ4x4fs"])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_rows_that_fit_are_searched_exactly_whatever_the_kind(kind: str, name: Device) -> None:
    placed = place(built(kind), ROWS, Placement(name))
    assert name_of(placed) == "exact in float16 on cpu"
    searcher = Searcher(placed, Vectors(ROWS))
    searcher.apply(SearchSettings(nprobe=4, refine=8))
    expected = np.argsort(-ROWS[:5] @ ROWS.T, axis=1)[:, :10]
    assert np.array_equal(searcher.search(ROWS[:5], 10).ids, expected)
    assert (searcher.cells, searcher.refine) == (0, 1)


@pytest.mark.parametrize("max_bytes", [None, 1 << 20])
def test_rows_that_do_not_fit_are_searched_by_faiss(
    gpu: SimpleNamespace, card: SimpleNamespace, max_bytes: int | None
) -> None:
    needed = resident_bytes(*ROWS.shape)
    card.free = 2 * needed - 2 if max_bytes is None else 4 * needed
    index = built("IVF8,SQ8")
    assert isinstance(place(index, ROWS, Placement("auto", max_bytes)), GpuIndexIVFScalarQuantizer)
    assert gpu.options
    card.free = 2 * needed
    assert isinstance(place(index, ROWS, Placement("auto", needed)), ExactIndex)


def test_the_cpu_is_used_on_request(card: SimpleNamespace) -> None:
    index = built("Flat")
    assert place(index, ROWS, Placement("cpu")) is index
    card.free = 0
    with pytest.raises(CacheError, match="no GPU"):
        place(index, ROWS, Placement("cuda"))
    assert place(index, ROWS, Placement("auto")) is index


@pytest.mark.usefixtures("card")
def test_rows_that_float16_cannot_score_stay_with_faiss(caplog: pytest.LogCaptureFixture) -> None:
    index = built("Flat")
    with caplog.at_level(logging.WARNING):
        assert place(index, 1000 * ROWS, Placement()) is index
    assert "no exact search on the GPU: " in caplog.text


@pytest.mark.usefixtures("card")
def test_a_cache_keeps_its_placement(folder: Path) -> None:
    """A service that reloads a cache folder searches on the same device as before."""
    index = CacheIndex.open(folder, placement=Placement("cuda"))
    assert isinstance(index.searcher.index, ExactIndex)
    assert index.placement == Placement("cuda")
    on_cpu = CacheIndex.open(folder, placement=Placement("cpu"))
    assert not isinstance(on_cpu.searcher.index, ExactIndex)


def test_limits() -> None:
    index = built("IVF8,SQ8")
    assert (max_candidates(index), max_cells(index)) == (2048, 8)
    assert max_candidates(GpuIndexIVFScalarQuantizer(index)) == 512


@pytest.mark.parametrize(
    ("free", "limit", "exact"),
    [(1 << 40, None, True), (1 << 20, None, False), (1 << 40, 1 << 20, False)],
)
def test_the_planned_memory_is_that_of_the_search_that_would_be_chosen(
    free: int, limit: int | None, exact: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(folder)
    rows = resident_bytes(manifest.count, manifest.dimension)
    placement = Placement("auto", limit)
    assert planned_gpu_bytes(manifest, Placement("cpu", limit), free) == 0
    assert planned_gpu_bytes(manifest, placement, free) == (rows if exact else 0), "no FAISS GPU"
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    planned = planned_gpu_bytes(manifest, placement, free)
    assert planned == rows if exact else planned > manifest.files["index.faiss"].bytes
