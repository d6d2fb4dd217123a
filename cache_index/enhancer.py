"""Enhancer: the interface to a cache, which can be in this process, in a service, or in several
services.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cache_index.captions import Caption
from cache_index.enhance import Array, CacheParams
from cache_index.manifest import Manifest


@dataclass(frozen=True, slots=True)
class EnhancedRow:
    vector: Array  # The enhanced query (D,).
    ids: NDArray[np.int64]  # Row numbers (K,) of the neighbors, best first, at most top_k.
    similarity: Array  # Their similarities (K,) to the query.
    captions: tuple[Caption, ...] = ()  # The captions (K,) of the neighbors, only with `explain`.
    prototypes: Array | None = None  # The vectors (K, D) of the neighbors, if requested.


class Enhancer(Protocol):
    @property
    def dimension(self) -> int: ...

    @property
    def defaults(self) -> CacheParams:
        """The default parameters, which were chosen when the cache was built."""

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The manifests of all shards, in order; empty until the services have answered once."""

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        """Enhance one query (D,). `explain` also returns the neighbors' captions.

        Raises QueryError: when the request is wrong.
        Raises CacheBusy: when the queue is full.
        Raises CacheError: when the cache cannot be used.
        """

    async def check(self) -> None:
        """Check that the cache can answer now. Meant to be called at intervals, not for each
        request.

        Raises CacheError: when the cache cannot answer.
        """

    async def aclose(self) -> None:
        """Answer the waiting requests, then release all resources."""
