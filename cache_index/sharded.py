"""ShardedCache: one cache that is split over several retrieval services.

Each shard (the part of the cache in one service) returns its best neighbors with their vectors. The
best of all these are exactly the best neighbors in the whole cache. This module computes the
enhancement from them. A request fails if a shard does not answer, because the result would be
different.
"""

import asyncio
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from cache_index.client import CacheClient
from cache_index.enhance import Array, CacheParams, enhance
from cache_index.enhancer import EnhancedRow
from cache_index.errors import CacheError
from cache_index.manifest import Manifest


class ShardedCache:
    def __init__(self, shards: Sequence[CacheClient]) -> None:
        """A neighbor's id is its row in the shard plus the number of rows of all previous
        shards.
        """
        first = shards[0].manifest
        for shard in shards:
            if (shard.dimension, shard.manifest.encoder) != (first.dimension, first.encoder):
                raise CacheError("the shards' features come from different encoders")
        self._shards = shards

    @property
    def dimension(self) -> int:
        return self._shards[0].dimension

    @property
    def defaults(self) -> CacheParams:
        return self._shards[0].defaults

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return tuple(shard.manifest for shard in self._shards)

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        """Enhance one query (D,), as `Enhancer` describes."""
        rows = await asyncio.gather(
            *(s.enhance(query, params, explain=explain, prototypes=True) for s in self._shards)
        )
        before = accumulate((shard.manifest.count for shard in self._shards), initial=0)
        merged = merge(rows, list(before)[:-1], params.top_k)
        assert merged.prototypes is not None
        hit = np.ones((1, len(merged.ids)), dtype=bool)
        vectors = enhance(
            query[None], merged.similarity[None], hit, merged.prototypes[None], [params]
        )
        return EnhancedRow(vectors[0], merged.ids, merged.similarity, merged.captions)

    async def check(self) -> None:
        await asyncio.gather(*(shard.check() for shard in self._shards))

    async def aclose(self) -> None:
        for shard in self._shards:
            await shard.aclose()


def merge(rows: Sequence[EnhancedRow], offsets: Sequence[int], top_k: int) -> EnhancedRow:
    """Select the best top_k neighbors among those of all shards."""
    ids = np.concatenate([row.ids + offset for row, offset in zip(rows, offsets, strict=True)])
    similarity = np.concatenate([row.similarity for row in rows])
    best = np.lexsort((ids, -similarity))[:top_k]
    captions = [caption for row in rows for caption in row.captions]
    return EnhancedRow(
        rows[0].vector,
        ids[best],
        similarity[best],
        tuple(captions[i] for i in best) if captions else (),
        np.concatenate([row.prototypes for row in rows if row.prototypes is not None])[best],
    )
