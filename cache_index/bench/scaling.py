"""Measure how the cost of a query and the memory of an open cache grow with the number of features.

Each cache is opened and searched in a separate process, to measure its memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np

from cache_index.bench.run import build, stream
from cache_index.enhance import CacheParams
from cache_index.errors import CacheError
from cache_index.index import CacheIndex
from cache_index.recall import BATCH, TOP_K
from cache_index.synthetic import UNSEEN_QUERIES

QUERIES = 512


@dataclass(frozen=True, slots=True)
class Cost:
    rows: int
    kind: str
    nprobe: int | None
    refine: int
    recall: float  # Recall on queries that tuning did not use, from the manifest.
    milliseconds: float  # Wall time per query, in batches of 16.
    cpu_ms: float  # CPU time per query, which depends less on other programs.
    open_gb: float  # Resident memory right after opening.
    # Resident memory after the queries, including the file pages that they have read.
    searched_gb: float
    own_gb: float  # Memory without pages of files, which the kernel can drop.


def scaling(
    counts: Sequence[int],
    folder: Path,
    *,
    dimension: int = 1024,
    kind: str = "auto",
    recall: float = 0.98,
    threads: int = 1,
    progress: bool = True,
) -> list[Cost]:
    """Measure one cache for each number of features in `counts`. Build missing caches in
    `folder`.
    """
    costs = []
    for count in counts:
        out = folder / f"{count}x{dimension}"
        if not out.exists():
            folder.mkdir(parents=True, exist_ok=True)
            build(out, count, dimension, kind, recall, folder, progress)
        costs.append(measure_apart(out, threads))
    return costs


def measure_apart(out: Path, threads: int) -> Cost:
    child = subprocess.run(
        [sys.executable, "-m", "cache_index.bench.scaling", str(out), str(threads)],
        capture_output=True,
        text=True,
    )
    if child.returncode != 0:
        raise CacheError(f"{out}: could not be measured: {child.stderr[-500:]}")
    return Cost(**json.loads(child.stdout))


def measure(out: Path, threads: int) -> Cost:
    faiss.omp_set_num_threads(threads)
    before, own = resident_gb(), resident_gb("RssAnon")
    index = CacheIndex.open(out)
    opened = resident_gb() - before
    queries = stream(QUERIES, index.dimension, UNSEEN_QUERIES)
    params = [CacheParams(top_k=TOP_K)] * BATCH
    index.enhance(queries[:BATCH], params)
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, QUERIES, BATCH):
        index.enhance(queries[first : first + BATCH], params)
    spent, computed = time.perf_counter() - start, time.process_time() - cpu
    manifest = index.manifest
    return Cost(
        rows=manifest.count,
        kind=manifest.kind,
        nprobe=manifest.search.nprobe,
        refine=manifest.search.refine,
        recall=manifest.recall.value if manifest.recall else 1.0,
        milliseconds=1000 * spent / QUERIES,
        cpu_ms=1000 * computed / QUERIES,
        open_gb=opened,
        searched_gb=resident_gb() - before,
        own_gb=resident_gb("RssAnon") - own,
    )


def resident_gb(kind: str = "VmRSS") -> float:
    """Return the resident memory of this process in GB. "RssAnon" excludes pages of mapped
    files.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (entry,) = (line for line in lines if line.startswith(f"{kind}:"))
    return int(entry.split()[1]) * 1024 / 1e9


def as_table(costs: Sequence[Cost]) -> str:
    """Markdown."""
    lines = [
        "| features | index | recall@10 | ms a query | CPU ms | GB resident, open "
        "| GB after 512 queries | GB private |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for c in costs:
        settings = f"{c.nprobe} cells, refine {c.refine}" if c.nprobe else "exact"
        lines.append(
            f"| {c.rows:,} | {c.kind} ({settings}) | {c.recall:.4f} | {c.milliseconds:.2f} "
            f"| {c.cpu_ms:.2f} | {c.open_gb:.2f} | {c.searched_gb:.2f} | {c.own_gb:.2f} |"
        )
    return "\n".join(lines)


def plot(costs: Sequence[Cost], path: Path) -> None:
    """Plot CPU time per query against the number of rows, with linear growth as a reference
    line.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CacheError("a plot needs matplotlib: pip install 'bindserve[plot]'") from None
    rows = np.array([cost.rows for cost in costs], dtype=float)
    spent = np.array([cost.cpu_ms for cost in costs])
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(rows, spent, "o-", label="tuned index")
    axes.plot(rows, spent[0] * rows / rows[0], ":", color="gray", label="linear growth")
    axes.set(xlabel="features", ylabel="milliseconds of CPU a query", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1]), int(sys.argv[2])))))
