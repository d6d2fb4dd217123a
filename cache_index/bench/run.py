"""`bindserve bench cache`: all measurements of the cache, in one run.

Builds a cache of synthetic features, or opens an existing one, and runs the measurements of the
other files in this folder. Set OMP_NUM_THREADS and OPENBLAS_NUM_THREADS to the same number before
the start, because NumPy reads its number of threads from these variables.

Shapes: B queries, N rows, D dimensions.
"""

import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from cache_index.bench.batching import batching
from cache_index.bench.exact import (
    FAISS_BLAS_THRESHOLD,
    against_blas,
    against_exact,
    exact_twin,
)
from cache_index.bench.gather import gathers
from cache_index.bench.load import under_load
from cache_index.bench.report import LOAD, Built, Report
from cache_index.bench.speed import speeds
from cache_index.build import SEED, build_from_features
from cache_index.build import TUNING_QUERIES as TUNED_ON
from cache_index.device import Device, Placement, name_of
from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.features import draw, open_features
from cache_index.index import CacheIndex
from cache_index.recall import TOP_K, Trial, make_trial
from cache_index.synthetic import TUNING_QUERIES, UNSEEN_QUERIES, SyntheticFeatures

QUERIES = 512
EXACT_QUERIES = 64  # number of queries for the exact search, which is slow


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
    queries: Path | None = None,
    device: Device = "cpu",
    progress: bool = True,
) -> Report:
    """Measure the cache in `folder` (default: a temporary folder). Build a missing cache.

    `queries`: a file with features (M, D), which are the test queries. Required if the cache does
    not contain the features that synthetic.py generates.
    """
    faiss.omp_set_num_threads(threads)
    built = Built()
    with tempfile.TemporaryDirectory() as temporary:
        out = folder or Path(temporary) / "cache"
        if not out.exists():
            start, cpu = time.perf_counter(), time.process_time()
            if kind == "auto" and device == "cuda":
                kind = "Flat"  # an exact search on the GPU needs no index
            build(out, rows, dimension, kind, recall, Path(temporary), progress)
            built = Built(
                time.perf_counter() - start,
                time.process_time() - cpu,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            )
        return measure(out, queries, threads, clients, repeats, built, Placement(device))


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
    out: Path,
    queries_path: Path | None,
    threads: int,
    clients: int,
    repeats: int,
    built: Built,
    placement: Placement,
) -> Report:
    tuned = CacheIndex.open(out, placement=placement)
    exact = exact_twin(tuned)
    queries = read_queries(queries_path, tuned.dimension)
    trial = make_trial(tuned.searcher.vectors.rows, queries, None, TOP_K)

    batched = partial(batching, clients=clients, threads=threads, repeats=repeats)
    serving = batched("tuned", tuned, queries, target=1)
    ratios = (
        batched("exact", exact, queries[:EXACT_QUERIES], target=4),
        serving,
        against_blas(exact, queries, repeats),
        *gathers(exact, repeats),
        against_exact(tuned, exact, queries, repeats),
        against_exact(tuned, exact, queries, repeats, threshold=FAISS_BLAS_THRESHOLD),
    )
    return Report(
        rows=len(tuned),
        dimension=tuned.dimension,
        threads=threads,
        clients=clients,
        kind=tuned.manifest.kind,
        search=name_of(tuned.searcher.index),
        settings=f"nprobe {tuned.manifest.search.nprobe}, refine {tuned.manifest.search.refine}",
        recall=float(trial.recall(tuned.searcher).mean()),
        recall_one_cell=recall_one_cell(tuned, trial),
        built=built,
        index_gb=tuned.manifest.files["index.faiss"].bytes / 1e9,
        ratios=ratios,
        speeds=speeds(tuned, queries, repeats),
        load=under_load(tuned, queries, LOAD * serving.measured, threads),
    )


def recall_one_cell(tuned: CacheIndex, trial: Trial) -> float | None:
    """Return the recall if the search visits one cell, or None if the index has no cells."""
    settings = tuned.manifest.search
    if settings.nprobe is None or not tuned.searcher.cells:
        return None
    tuned.searcher.apply(settings.model_copy(update={"nprobe": 1}))
    try:
        return float(trial.recall(tuned.searcher).mean())
    finally:
        tuned.searcher.apply(settings)


def stream(count: int, dimension: int, number: int) -> Array:
    return np.concatenate(list(SyntheticFeatures(count, dimension, stream=number).blocks()))


def read_queries(path: Path | None, dimension: int) -> Array:
    """Return at most QUERIES queries (B, D) that tuning did not use, read from the file or
    generated.
    """
    if path is None:
        return stream(QUERIES, dimension, UNSEEN_QUERIES)
    features = open_features(path)
    if features.dimension != dimension:
        raise CacheError(f"{path}: rows of {features.dimension} numbers, not {dimension}")
    tuned = min(TUNED_ON, features.count // 2)
    return draw(features, tuned + QUERIES, SEED)[tuned:]
