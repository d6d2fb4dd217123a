"""The benchmark of the cache runs, its report has all comparisons, and it treats both sides of a
comparison equally.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from cache_index.bench import scaling
from cache_index.bench.exact import exact_twin, flat_rows
from cache_index.bench.load import open_loop
from cache_index.bench.pairs import Ratio, as_table, compare_rates
from cache_index.bench.run import build, read_queries, run, stream
from cache_index.build import build_from_features
from cache_index.enhance import Array, normalize
from cache_index.errors import CacheError
from cache_index.exact import ExactIndex
from cache_index.index import CacheIndex
from cache_index.recall import Trial
from cache_index.searcher import Searcher
from cache_index.synthetic import ROWS, UNSEEN_QUERIES
from cache_index.tune import Point, tune


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    build(folder / "c", 6000, 32, "IVF64,SQ8", 0.9, folder, progress=False)
    return folder / "c"


def test_a_whole_run(cache: Path) -> None:
    report = run(folder=cache, repeats=1, clients=4, progress=False)
    text = report.text()
    assert len(report.ratios) == 8
    assert all(ratio.median > 0 for ratio in report.ratios)
    assert 0.85 < report.recall <= 1
    assert report.built.seconds == 0  # the run used the existing cache and built none
    assert "6000 x 32, IVF64,SQ8" in text
    assert text.count("reached") + text.count("missed") == 7
    assert 0 < report.load.p50_ms <= report.load.p99_ms


def test_a_run_on_a_device(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = ExactIndex.load
    monkeypatch.setattr("cache_index.device.free_gpu_bytes", lambda: 1 << 40)
    monkeypatch.setattr(ExactIndex, "load", lambda rows, _: load(rows, "cpu"))
    report = run(folder=cache, repeats=1, clients=4, device="cuda", progress=False)
    # below 1, because rows of almost equal similarity may be ordered differently
    assert report.recall > 0.99
    assert report.recall_one_cell is None
    assert "searched by: exact in float16 on cpu" in report.text()
    assert [speed.batch for speed in report.speeds] == [1, 16, 256]


def test_a_run_that_builds_and_asks_with_features_of_ones_own(tmp_path: Path) -> None:
    built = run(rows=1000, dimension=8, kind="Flat", folder=tmp_path / "c", repeats=1)
    assert built.built.seconds > 0
    assert built.recall == 1
    assert "built in" in built.text()
    asked = stream(40, 8, UNSEEN_QUERIES)
    np.save(tmp_path / "q.npy", asked)
    report = run(folder=tmp_path / "c", queries=tmp_path / "q.npy", repeats=1, progress=False)
    assert report.recall == 1
    np.save(tmp_path / "q.npy", asked[:, :7])
    with pytest.raises(CacheError, match=r"q.npy: rows of 7 numbers, not 8"):
        run(folder=tmp_path / "c", queries=tmp_path / "q.npy", repeats=1, progress=False)


def test_queries_of_ones_own_are_not_those_of_the_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = stream(3000, 8, UNSEEN_QUERIES)
    np.save(tmp_path / "f.npy", rows)
    np.save(tmp_path / "q.npy", rows)
    tuned_on: list[Array] = []

    def watched(searcher: Searcher, trial: Trial, target: float) -> tuple[Point, list[Point]]:
        tuned_on.append(trial.queries)
        return tune(searcher, trial, target)

    monkeypatch.setattr("cache_index.build.tune", watched)
    source, queries = tmp_path / "f.npy", tmp_path / "q.npy"
    build_from_features(source, tmp_path / "c", kind="IVF8,Flat", queries=queries, progress=False)
    asked = normalize(read_queries(queries, 8))
    assert len(asked) == 512
    assert len(tuned_on[0]) == 1000
    assert (asked @ tuned_on[0].T).max() < 1 - 1e-6


def test_what_the_loop_reads_is_the_index_itself(cache: Path) -> None:
    exact = exact_twin(CacheIndex.open(cache))
    rows = flat_rows(exact)
    assert np.array_equal(rows[5999], exact.searcher.index.reconstruct(5999))
    assert not rows.flags.owndata


def test_the_twin_searches_all_rows_exactly(cache: Path) -> None:
    tuned = CacheIndex.open(cache)
    rows = stream(6000, 32, ROWS).astype(np.float16).astype(np.float32)
    queries = stream(20, 32, UNSEEN_QUERIES)
    expected = np.argsort(-queries @ rows.T, axis=1)[:, :10]
    # Rows of almost equal similarity may be ordered differently.
    assert (exact_twin(tuned).search(queries, 10).ids == expected).mean() > 0.99


def test_pairs_are_interleaved_and_warmed_up() -> None:
    calls: list[str] = []

    def measured() -> None:
        calls.append("measured")

    def baseline() -> None:
        calls.append("baseline")
        time.sleep(0.002)

    ratio = compare_rates("n", measured, baseline, done=10, done_baseline=5, repeats=3, target=2)
    assert calls == ["measured", "baseline"] * 4
    assert len(ratio.ratios) == 3
    assert ratio.reached
    assert ratio.baseline < 5 / 0.002


def test_the_table_says_what_was_missed() -> None:
    lines = as_table(
        [
            Ratio("good", 3, 1, "/s", (3.0, 2.9, 3.1), 2),
            Ratio("bad", 1, 1, "/s", (1.0, 9.0, 1.1), 2),
            Ratio("free", 1, 1, "/s", (1.0,)),
        ]
    ).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["reached", "missed", ""]
    assert "1.10 (1.00 - 9.00)" in lines[3]


async def test_open_loop_counts_from_when_a_request_was_due() -> None:
    """If the server stalls, the stall counts in the latency of each request that is due during the
    stall.
    """

    class Stalls:
        async def enhance(self, *_: object) -> None:
            time.sleep(0.05)  # blocks the event loop, so that later requests are late

    queries = np.zeros((4, 2), np.float32)
    waited = await open_loop(Stalls(), queries, rate=1e6)  # type: ignore[arg-type]
    assert max(waited) > 0.15
    assert asyncio.get_running_loop()


def test_scaling(tmp_path: Path) -> None:
    costs = scaling.scaling(
        [500, 2000], tmp_path, dimension=32, kind="IVF16,Flat", recall=0.9, progress=False
    )
    assert [cost.rows for cost in costs] == [500, 2000]
    assert all(cost.milliseconds > 0 and cost.cpu_ms > 0 for cost in costs)
    assert all(0 <= cost.open_gb < 1 for cost in costs)
    assert all(0 < cost.own_gb <= cost.searched_gb for cost in costs)
    scaling.plot(costs, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    # the second run uses the cache that the first run has built
    again = scaling.scaling([500], tmp_path, dimension=32, progress=False)
    assert again[0].kind == "IVF16,Flat"
