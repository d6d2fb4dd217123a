"""Measure the latency of requests that are sent at random times, without waiting for earlier
answers.

Shapes: B queries, D dimensions.
"""

import asyncio
import time
from dataclasses import dataclass

import numpy as np

from cache_index.enhance import Array, CacheParams
from cache_index.index import CacheIndex
from cache_index.owner import IndexOwner
from cache_index.recall import TOP_K

ROUNDS = 4  # number of times that each query is sent


@dataclass(frozen=True, slots=True)
class Load:
    rate: float  # requests per second
    p50_ms: float
    p99_ms: float


def under_load(index: CacheIndex, queries: Array, rate: float, threads: int) -> Load:
    owner = IndexOwner(index, max_waiting=len(queries) * ROUNDS, threads=threads)
    waited = asyncio.run(open_loop(owner, np.concatenate([queries] * ROUNDS), rate))
    owner.close()
    p50, p99 = 1000 * np.percentile(waited, (50, 99))
    return Load(rate, float(p50), float(p99))


async def open_loop(owner: IndexOwner, queries: Array, rate: float) -> list[float]:
    """Return the seconds (B,) from each request's scheduled time to its answer, so that a stall of
    the server counts for every request that it delays.
    """

    async def request(query: Array, due: float) -> float:
        await owner.enhance(query, CacheParams(top_k=TOP_K))
        return time.perf_counter() - due

    gaps = np.random.default_rng(0).exponential(1 / rate, len(queries))
    due = time.perf_counter()
    tasks = []
    for query, gap in zip(queries, gaps.tolist(), strict=True):
        due += gap
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(request(query, due)))
    return await asyncio.gather(*tasks)
