"""Compare the request rate of many concurrent clients with batching and without it.

Shapes: B queries, D dimensions.
"""

import asyncio
from collections.abc import Callable

from cache_index.bench.pairs import Ratio, compare_rates
from cache_index.enhance import Array, CacheParams
from cache_index.index import CacheIndex
from cache_index.owner import IndexOwner
from cache_index.recall import TOP_K

MAX_BATCH = 64


def batching(
    name: str,
    index: CacheIndex,
    queries: Array,
    *,
    clients: int,
    threads: int,
    repeats: int,
    target: float,
) -> Ratio:
    """Run `clients` concurrent clients. Each sends its next query (D,) when its previous query is
    answered.
    """

    def serve(max_batch: int) -> Callable[[], None]:
        def action() -> None:
            owner = IndexOwner(index, max_batch=max_batch, threads=threads)
            asyncio.run(closed_loop(owner, queries, clients))
            owner.close()

        return action

    return compare_rates(
        f"{name}, batched / one by one",
        serve(MAX_BATCH),
        serve(1),
        done=len(queries),
        repeats=repeats,
        target=target,
    )


async def closed_loop(owner: IndexOwner, queries: Array, clients: int) -> None:
    left = iter(queries)

    async def client() -> None:
        for query in left:
            await owner.enhance(query, CacheParams(top_k=TOP_K))

    await asyncio.gather(*(client() for _ in range(clients)))
