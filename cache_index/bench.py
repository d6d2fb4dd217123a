"""`bindserve bench cache`: what this room claims, measured side by side in one run.

Batched service against one by one, exact search against the matrix product that it must be,
gathering against FAISS's reconstruct, the tuned index against exact search; and the waiting times
at 80% load. Set OMP_NUM_THREADS and OPENBLAS_NUM_THREADS to the same number before the start:
NumPy's side of a comparison takes its threads from there.

Shapes: B queries, N rows, D dimensions.
"""

import asyncio
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from cache_index import pairs
from cache_index.build import build_from_features
from cache_index.captions import Captions
from cache_index.enhance import Array, CacheParams
from cache_index.features import BLOCK_ROWS
from cache_index.index import CacheIndex
from cache_index.owner import IndexOwner
from cache_index.pairs import Ratio, compare_rates
from cache_index.recall import BATCH, Trial, make_trial
from cache_index.searcher import Searcher
from cache_index.synthetic import TUNING_QUERIES, UNSEEN_QUERIES, SyntheticFeatures
from cache_index.vectors import Vectors, as_float32

FAISS_BLAS_THRESHOLD = 128_000  # FAISS 1.15's own value of what searcher.py sets lower
TOP_K = 10
LOAD = 0.8


@dataclass(frozen=True, slots=True)
class Report:
    rows: int
    dimension: int
    threads: int
    clients: int
    kind: str
    settings: str
    recall: float  # @10, on queries that tuning did not see
    recall_one_cell: float | None  # the same queries, one cell visited: how hard the data are
    build_seconds: float
    build_peak_gb: float  # of this process, from its start to the end of the build
    index_gb: float
    ratios: tuple[Ratio, ...]
    load: "Load"

    def text(self) -> str:
        return "\n".join(
            (
                f"{self.rows} x {self.dimension}, {self.kind} ({self.settings}), {self.threads} "
                f"threads, {self.clients} clients; {self.build_text()}index {self.index_gb:.2f} GB",
                f"recall@{TOP_K} on unseen queries: {self.recall:.4f}{self.hardness()}",
                "",
                pairs.as_table(self.ratios),
                "",
                f"At {LOAD:.0%} load ({self.load.rate:.0f}/s): p50 {self.load.p50_ms:.2f} ms, "
                f"p99 {self.load.p99_ms:.2f} ms",
            )
        )

    def build_text(self) -> str:
        if self.build_seconds < 1:  # it was there already
            return ""
        return f"built in {self.build_seconds:.0f} s with {self.build_peak_gb:.1f} GB at most, "

    def hardness(self) -> str:
        cell = self.recall_one_cell
        return "" if cell is None else f" (of one cell only: {cell:.4f})"


@dataclass(frozen=True, slots=True)
class Load:
    rate: float  # requests per second, arriving at random
    p50_ms: float
    p99_ms: float


def run(
    *,
    rows: int = 100_000,
    dimension: int = 1024,
    kind: str = "auto",
    recall: float = 0.98,
    threads: int = 1,
    clients: int = 16,
    repeats: int = 5,
    folder: Path | None = None,
    progress: bool = True,
) -> Report:
    """Build into `folder` (or measure the cache that is there; default: a temporary one).

    Minutes at 100,000 rows, an hour and 10 GB of disk at 1,000,000.
    """
    faiss.omp_set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        out = folder or Path(temporary) / "cache"
        start = time.perf_counter()
        if not out.exists():
            build(out, rows, dimension, kind, recall, Path(temporary), progress)
        spent = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return measure(out, threads, clients, repeats, spent, peak)


def build(
    out: Path, rows: int, dimension: int, kind: str, recall: float, scratch: Path, progress: bool
) -> None:
    queries = scratch / "queries.npy"
    np.save(queries, stream(2000, dimension, TUNING_QUERIES))
    build_from_features(
        SyntheticFeatures(rows, dimension),
        out,
        kind=kind,
        dtype="float16",
        queries=queries,
        recall=recall,
        progress=progress,
    )


def measure(
    out: Path, threads: int, clients: int, repeats: int, build_seconds: float, peak_gb: float
) -> Report:
    tuned = CacheIndex.open(out)
    exact = exact_twin(tuned)
    queries = stream(512, tuned.dimension, UNSEEN_QUERIES)
    trial = make_trial(tuned.searcher.vectors.rows, queries, None, TOP_K)
    ratios = (
        batching("exact, batched / one by one", exact, queries[:64], clients, threads, repeats, 4),
        batching("tuned, batched / one by one", tuned, queries, clients, threads, repeats, 1),
        against_blas(exact, queries[:BATCH], repeats),
        against_reconstruct(exact, "float32", repeats, 10),
        against_reconstruct(exact, "float16", repeats),
        against_exact(tuned, exact, queries, repeats),
        against_exact(tuned, exact, queries, repeats, threshold=FAISS_BLAS_THRESHOLD),
    )
    return Report(
        rows=len(tuned),
        dimension=tuned.dimension,
        threads=threads,
        clients=clients,
        kind=tuned.manifest.kind,
        settings=f"nprobe {tuned.manifest.search.nprobe}, refine {tuned.manifest.search.refine}",
        recall=float(trial.recall(tuned.searcher).mean()),
        recall_one_cell=recall_one_cell(tuned, trial),
        build_seconds=build_seconds,
        build_peak_gb=peak_gb,
        index_gb=tuned.manifest.files["index.faiss"].bytes / 1e9,
        ratios=ratios,
        load=under_load(tuned, queries, LOAD * ratios[1].ours, threads),
    )


def recall_one_cell(tuned: CacheIndex, trial: Trial) -> float | None:
    """None: the index has no cells."""
    settings = tuned.manifest.search
    if settings.nprobe is None:
        return None
    tuned.searcher.apply(settings.model_copy(update={"nprobe": 1}))
    try:
        return float(trial.recall(tuned.searcher).mean())
    finally:
        tuned.searcher.apply(settings)


def stream(count: int, dimension: int, number: int) -> Array:
    return np.concatenate(list(SyntheticFeatures(count, dimension, stream=number).blocks()))


def exact_twin(cache: CacheIndex) -> CacheIndex:
    """The same rows in an IndexFlatIP."""
    vectors = cache.searcher.vectors
    flat = faiss.IndexFlatIP(cache.dimension)
    for start in range(0, len(vectors.rows), BLOCK_ROWS):
        flat.add(as_float32(vectors.rows[start : start + BLOCK_ROWS]))
    none = Captions(None, np.zeros(0, dtype=np.int64), cache.folder)
    return CacheIndex(cache.folder, cache.manifest, Searcher(flat, vectors), none)


def batching(
    name: str,
    index: CacheIndex,
    queries: Array,
    clients: int,
    threads: int,
    repeats: int,
    target: float,
) -> Ratio:
    """`clients` that each send their next query when the last one is answered."""

    def serve(max_batch: int) -> Callable[[], None]:
        def action() -> None:
            owner = IndexOwner(index, max_batch=max_batch, threads=threads)
            asyncio.run(closed_loop(owner, queries, clients))
            owner.close()

        return action

    return compare_rates(
        name, serve(64), serve(1), done=len(queries), repeats=repeats, target=target
    )


async def closed_loop(owner: IndexOwner, queries: Array, clients: int) -> None:
    left = iter(queries)

    async def client() -> None:
        for query in left:
            await owner.enhance(query, CacheParams(top_k=TOP_K))

    await asyncio.gather(*(client() for _ in range(clients)))


def against_blas(exact: CacheIndex, queries: Array, repeats: int) -> Ratio:
    """Nobody can be faster than the product of all queries and rows, and the choice of the best."""
    index: Any = exact.searcher.index
    rows = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(-1, index.d)

    def limit() -> None:
        similarity = queries @ rows.T
        best = np.argpartition(-similarity, TOP_K, axis=1)[:, :TOP_K]
        np.take_along_axis(similarity, best, axis=1)

    return compare_rates(
        f"exact search of {len(queries)} / BLAS and top-k",
        lambda: exact.search(queries, TOP_K),
        limit,
        done=len(queries),
        repeats=repeats,
        target=0.8,
    )


def against_reconstruct(
    exact: CacheIndex, dtype: str, repeats: int, target: float | None = None
) -> Ratio:
    """As the released code gets its neighbors: one call each, then put together."""
    index: Any = exact.searcher.index
    rows = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(-1, index.d)
    vectors = Vectors(rows.astype(dtype, copy=False))  # no second copy of gigabytes
    ids = np.random.default_rng(0).integers(index.ntotal, size=(200, BATCH, TOP_K))

    def loop() -> None:
        for batch in ids:
            np.stack([[index.reconstruct(int(i)) for i in row] for row in batch])

    def gather() -> None:
        for batch in ids:
            vectors.gather(batch)

    name = f"gather of {dtype} / reconstruct loop"
    return compare_rates(name, gather, loop, done=ids.size, repeats=repeats, target=target)


def against_exact(
    tuned: CacheIndex,
    exact: CacheIndex,
    queries: Array,
    repeats: int,
    threshold: int | None = None,
) -> Ratio:
    """Both in batches of 16; `threshold`: IndexFlatIP as FAISS ships it, not as we set it."""
    few = queries[: 2 * BATCH]

    def flat() -> None:
        ours = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = threshold or ours
        try:
            for start in range(0, len(few), BATCH):
                exact.searcher.index.search(few[start : start + BATCH], TOP_K)
        finally:
            faiss.cvar.distance_compute_blas_threshold = ours

    def fast() -> None:
        for start in range(0, len(queries), BATCH):
            tuned.search(queries[start : start + BATCH], TOP_K)

    return compare_rates(
        f"tuned / IndexFlatIP{' as shipped' if threshold else ' with BLAS'}, batch {BATCH}",
        fast,
        flat,
        done=len(queries),
        done_theirs=len(few),
        repeats=repeats,
        target=20,
    )


def under_load(index: CacheIndex, queries: Array, rate: float, threads: int) -> Load:
    """Requests that arrive at random, whether or not the last one is answered."""
    owner = IndexOwner(index, max_waiting=len(queries) * 4, threads=threads)
    waited = asyncio.run(open_loop(owner, np.concatenate([queries] * 4), rate))
    owner.close()
    p50, p99 = 1000 * np.percentile(waited, (50, 99))
    return Load(rate, float(p50), float(p99))


async def open_loop(owner: IndexOwner, queries: Array, rate: float) -> list[float]:
    async def request(query: Array, due: float) -> float:
        await owner.enhance(query, CacheParams(top_k=TOP_K))
        return time.perf_counter() - due  # from when it should have been sent

    gaps = np.random.default_rng(0).exponential(1 / rate, len(queries))
    due = time.perf_counter()
    tasks = []
    for query, gap in zip(queries, gaps.tolist(), strict=True):
        due += gap
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(request(query, due)))
    return await asyncio.gather(*tasks)
