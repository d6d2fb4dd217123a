"""Measure recall and speed of a cache for several search settings; write a table and a plot.

Shapes: B queries, D embedding dimensions.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from cache_index.build import SEED
from cache_index.device import AUTO, Placement
from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheError
from cache_index.features import draw, open_features
from cache_index.index import CacheIndex
from cache_index.manifest import SearchSettings
from cache_index.recall import BATCH, Trial, make_trial

REPEATS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    settings: SearchSettings
    tuned: bool  # Whether the cache's manifest has these settings.
    recall: float  # Recall@top_k.
    p50_ms: float  # Latency of single queries, including gathering and enhancing.
    p99_ms: float
    queries_per_second: float  # Throughput when 16 queries are searched at a time.


def evaluate(
    folder: Path,
    *,
    queries: Path | None = None,
    count: int = 500,
    top_k: int = 10,
    threads: int = 1,
    verify: bool = True,
    placement: Placement = AUTO,
) -> list[Measured]:
    """Measure settings from one visited cell to four times the tuned number. `queries`: features
    (M, D). Default: rows of the cache. A row does not count as its own neighbor.
    """
    index = CacheIndex.open(folder, verify=verify, placement=placement)
    if not 1 <= top_k < len(index):
        raise CacheError(f"top_k must be in [1, {len(index) - 1}], got {top_k}")
    faiss.omp_set_num_threads(threads)
    trial = choose_trial(index, queries, count, top_k)
    measured = []
    for settings in settings_around(index.manifest.search, index.searcher.cells):
        index.searcher.apply(settings)
        measured.append(measure(index, trial, settings))
    index.close()
    return measured


def choose_trial(index: CacheIndex, queries: Path | None, count: int, top_k: int) -> Trial:
    rows = index.searcher.vectors.rows
    if queries is None:
        own = np.sort(np.random.default_rng(SEED + 1).permutation(len(rows))[:count])
        return make_trial(rows, rows[own].astype(np.float32), own, top_k)
    sample = draw(open_features(queries), count, SEED + 1)
    if sample.shape[1] != index.dimension:
        raise CacheError(f"{queries}: rows of {sample.shape[1]} numbers, not {index.dimension}")
    return make_trial(rows, sample, None, top_k)


def settings_around(tuned: SearchSettings, cells: int) -> list[SearchSettings]:
    """Return settings with 1, 2, 4, ... visited cells, up to four times the tuned number."""
    if tuned.nprobe is None:
        return [tuned]
    powers = {1 << i for i in range(cells.bit_length()) if 1 << i <= min(4 * tuned.nprobe, cells)}
    return [
        SearchSettings(nprobe=nprobe, refine=tuned.refine)
        for nprobe in sorted(powers | {tuned.nprobe})
    ]


def measure(index: CacheIndex, trial: Trial, settings: SearchSettings) -> Measured:
    params = CacheParams(top_k=trial.truth.shape[1])
    recall = float(trial.recall(index.searcher).mean())  # the first search also warms up the index
    singles = [seconds(index, trial.queries[i : i + 1], params) for i in range(len(trial.queries))]
    batches = [
        seconds(index, trial.queries[start : start + BATCH], params)
        for _ in range(REPEATS)
        for start in range(0, len(trial.queries) - BATCH + 1, BATCH)
    ]
    return Measured(
        settings,
        settings == index.manifest.search,
        recall,
        1000 * float(np.percentile(singles, 50)),
        1000 * float(np.percentile(singles, 99)),
        BATCH / float(np.median(batches)) if batches else float("nan"),
    )


def seconds(index: CacheIndex, queries: Array, params: CacheParams) -> float:
    start = time.perf_counter()
    index.enhance(queries, [params] * len(queries))
    return time.perf_counter() - start


def as_table(measured: Sequence[Measured]) -> str:
    """Format a Markdown table. The table marks the settings in use."""
    lines = [
        "| cells | refine | recall | p50 ms | p99 ms | queries/s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for m in measured:
        cells = "all" if m.settings.nprobe is None else str(m.settings.nprobe)
        lines.append(
            f"| {cells}{' *' if m.tuned else ''} | {m.settings.refine} | {m.recall:.4f} "
            f"| {m.p50_ms:.2f} | {m.p99_ms:.2f} | {m.queries_per_second:.0f} |"
        )
    return "\n".join(lines)


def plot(measured: Sequence[Measured], path: Path, *, title: str = "") -> None:
    """Plot recall against throughput and against latency. The file's suffix sets the format."""
    try:
        # imported here, because it is slow and only plots need it
        from matplotlib.figure import Figure
    except ImportError:
        raise CacheError("a plot needs matplotlib: pip install 'bindserve[plot]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    recall = [m.recall for m in measured]
    throughput, latency = figure.subplots(1, 2)
    throughput.plot(recall, [m.queries_per_second for m in measured], "o-")
    throughput.set(xlabel="recall", ylabel="queries per second, batches of 16", yscale="log")
    latency.plot(recall, [m.p50_ms for m in measured], "o-", label="p50")
    latency.plot(recall, [m.p99_ms for m in measured], "s--", label="p99")
    latency.set(xlabel="recall", ylabel="milliseconds, one query", yscale="log")
    latency.legend()
    for axes in (throughput, latency):
        axes.grid(alpha=0.3, which="both")
        for m in measured:
            if m.tuned:
                axes.axvline(m.recall, color="gray", linestyle=":")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
