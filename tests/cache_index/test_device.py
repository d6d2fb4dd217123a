"""Around the lines that need a GPU: stand-ins with the limits that FAISS's documentation tells."""

import logging
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from cache_index.device import most_candidates, most_cells, place
from cache_index.enhance import Array, CacheParams, enhance
from cache_index.manifest import SearchSettings
from cache_index.searcher import Searcher
from cache_index.vectors import Ids, Vectors

ROWS = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)


class GpuIndexIVFScalarQuantizer:
    """Answers like the CPU's, and fails where the GPU's would."""

    def __init__(self, index: Any, nlist: int | None = None) -> None:
        self._index = index
        self.d, self.nlist = index.d, nlist or index.nlist
        self.nprobe = 1

    def search(self, queries: Array, k: int) -> tuple[Array, Ids]:
        assert k <= 512  # "invalid argument", and the process aborts
        assert self.nprobe <= 2048
        self._index.nprobe = min(self.nprobe, self._index.nlist)
        found: tuple[Array, Ids] = self._index.search(queries, k)
        return found


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What FAISS's GPU build adds, writing down what it is asked for."""
    asked = SimpleNamespace(options=None, fail=False)

    def to_gpu(resources: object, device: int, index: Any, options: Any) -> Any:
        if asked.fail:
            raise RuntimeError("out of memory")
        if index.nprobe > 2048:
            raise RuntimeError("nprobe must be <= 2048")
        asked.options = (device, options.useFloat16, options.use_cuvs)
        asked.resources = resources
        return GpuIndexIVFScalarQuantizer(index)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    for name, value in (
        ("GpuClonerOptions", SimpleNamespace),
        ("StandardGpuResources", SimpleNamespace),
        ("index_cpu_to_gpu", to_gpu),
    ):
        monkeypatch.setattr(faiss, name, value, raising=False)
    return asked


def built(kind: str) -> Any:
    index: Any = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(ROWS)
    index.add(ROWS)
    return index


def test_the_first_gpu_takes_it(gpu: SimpleNamespace) -> None:
    placed = place(built("IVF8,SQ8"))
    assert isinstance(placed, GpuIndexIVFScalarQuantizer)
    assert gpu.options == (0, True, False)
    assert placed.referenced_objects == [gpu.resources]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("gpu")
def test_an_index_that_was_saved_with_more_cells_than_a_gpu_visits() -> None:
    """FAISS refuses to clone such an imported index, which looked like a lack of memory."""
    index = built("IVF8,SQ8")
    index.nprobe = 4096
    assert isinstance(place(index), GpuIndexIVFScalarQuantizer)


@pytest.mark.parametrize("why", ["kind", "memory"])
def test_what_no_gpu_takes_is_searched_on_the_cpu(
    gpu: SimpleNamespace, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail = why == "memory"
    index = built("IVF8,PQ4x4fs" if why == "kind" else "IVF8,SQ8")
    with caplog.at_level(logging.WARNING):
        assert place(index) is index
    assert "on the CPU" in caplog.text


def test_without_a_gpu_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    index = built("IVF8,SQ8")
    assert place(index) is index
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
    assert few.hit.sum(axis=1).tolist() == [512] * 3  # the rest are misses, as elsewhere
    params = [CacheParams(top_k=1000)] * 3
    enhanced = enhance(queries, few.similarity, few.hit, few.vectors, params)
    assert np.isfinite(enhanced).all()
    many = GpuIndexIVFScalarQuantizer(index, nlist=8192)
    Searcher(many, Vectors(ROWS)).apply(SearchSettings(nprobe=5000))
    assert many.nprobe == 2048


def test_limits() -> None:
    index = built("IVF8,SQ8")
    assert (most_candidates(index), most_cells(index)) == (2048, 8)
    assert most_candidates(GpuIndexIVFScalarQuantizer(index)) == 512
