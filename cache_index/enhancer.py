"""What the server needs of a cache, wherever it runs: in this process, as a service, in shards."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cache_index.captions import Caption
from cache_index.enhance import Array, CacheParams
from cache_index.manifest import Manifest


@dataclass(frozen=True, slots=True)
class EnhancedRow:
    vector: Array  # (D,)
    ids: NDArray[np.int64]  # (K,) hits only, best first, at most top_k
    similarity: Array  # (K,)
    captions: tuple[Caption, ...] = ()  # (K,) if they were asked for (explain)
    prototypes: Array | None = None  # (K, D) the neighbors' vectors, if they were asked for


class Enhancer(Protocol):
    @property
    def dimension(self) -> int: ...

    @property
    def defaults(self) -> CacheParams:
        """What the cache's builder recommends."""

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """What is known about it; of each shard, in order."""

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        """One query (D,); `explain` also returns the neighbors' captions.

        QueryError (the request's fault), CacheBusy (try again later), CacheError (cannot be used).
        """

    async def check(self) -> None:
        """CacheError unless it could answer now. For who asks from time to time, not each time."""

    async def aclose(self) -> None:
        """Answer those who wait, then give everything back."""
