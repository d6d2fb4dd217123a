"""Step `retrieval`: measures the speed of the cache's exact search, and checks its results."""

import statistics

import numpy as np
import torch
from numpy.typing import NDArray

from cache_index.exact import ExactIndex
from cache_index.searcher import Searcher
from cache_index.vectors import Vectors
from deploy.gpu.arguments import Arguments
from model_ext.bench.timing import seconds

FULL_ROWS, TINY_ROWS = 1_000_000, 20_000
FULL_DIMENSION, TINY_DIMENSION = 1024, 64
BATCHES = (1, 16, 256)  # numbers of queries in one search
REPEATS = 30
TOP_K = 10
MIN_QUERIES_PER_S = {16: 15_000}
BLOCK_ROWS = 1 << 16


def main() -> None:
    arguments = Arguments.parse(__doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, dimension = TINY_ROWS, TINY_DIMENSION
    if arguments.full:
        count, dimension = FULL_ROWS, FULL_DIMENSION
    rows, queries = random_rows(count, dimension, device), random_rows(256, dimension, device)
    searcher = Searcher(ExactIndex.load(rows, device), Vectors(rows))
    wide = queries.astype(np.float32)
    arguments.wait_until_quiet()
    for batch in BATCHES:
        part = wide[:batch]
        searcher.search(part, TOP_K)  # a warm-up, which is not measured
        index_s = median_s(lambda part=part: searcher.index.search(part, TOP_K))
        whole_s = median_s(lambda part=part: searcher.search(part, TOP_K))
        arguments.rows.number(
            f"exact search of {count:,} x {dimension}, batch {batch}",
            batch / index_s,
            "queries/s",
            at_least=MIN_QUERIES_PER_S.get(batch) if arguments.full else None,
            detail=f"({batch / whole_s:,.0f} with vectors gathered and scored in float32)",
        )
    overlap = found_share(searcher, rows, wide)
    arguments.rows.number(
        "share of the results that equal those of an exact float32 search",
        overlap,
        "",
        at_least=0.999,
    )


def random_rows(count: int, dimension: int, device: str) -> NDArray[np.float16]:
    """Return unit vectors (count, dimension), created on the device block by block."""
    rows = np.empty((count, dimension), np.float16)
    generator = torch.Generator(device).manual_seed(count)
    for start in range(0, count, BLOCK_ROWS):
        size = min(BLOCK_ROWS, count - start)
        block = torch.randn(size, dimension, generator=generator, device=device)
        unit = torch.nn.functional.normalize(block).half()
        rows[start : start + size] = unit.cpu().numpy()
    return rows


def median_s(search: object) -> float:
    assert callable(search)
    return statistics.median(seconds(search) for _ in range(REPEATS))


def found_share(
    searcher: Searcher, rows: NDArray[np.float16], queries: NDArray[np.float32]
) -> float:
    """Search with 64 queries. Return the share of the true nearest rows that the search returns."""
    queries = queries[:64]
    ids = searcher.search(queries, TOP_K).ids
    similarity = np.concatenate(
        [
            queries @ rows[start : start + BLOCK_ROWS].astype(np.float32).T
            for start in range(0, len(rows), BLOCK_ROWS)
        ],
        axis=1,
    )
    best = np.argpartition(-similarity, TOP_K, axis=1)[:, :TOP_K]
    hits = [len(set(a) & set(b)) for a, b in zip(ids.tolist(), best.tolist(), strict=True)]
    return sum(hits) / (TOP_K * len(queries))


if __name__ == "__main__":
    main()
