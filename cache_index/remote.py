"""RemoteCache: one or several retrieval services, which may start after the server or restart. The
server calls `check` regularly, and `check` connects when all services answer. Until then, requests
raise CacheUnavailable at once.
"""

import asyncio
from collections.abc import Sequence

from cache_index.client import CacheClient
from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow, Enhancer
from cache_index.errors import CacheUnavailable
from cache_index.fit import Fit
from cache_index.manifest import Manifest
from cache_index.sharded import ShardedCache


class RemoteCache:
    def __init__(
        self, urls: Sequence[str], fit: Fit, *, token: str | None = None, timeout: float = 2.0
    ) -> None:
        """Several `urls` are the shards of one cache, in the order of their rows."""
        self._urls = urls
        self._fit = fit
        self._token = token
        self._timeout = timeout
        self._cache: Enhancer | None = None

    @property
    def dimension(self) -> int:
        return self._fit.dimension

    @property
    def defaults(self) -> CacheParams:
        return self._cache.defaults if self._cache else CacheParams()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return self._cache.manifests if self._cache else ()

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        if self._cache is None:
            raise CacheUnavailable(f"{', '.join(self._urls)}: has not answered yet")
        return await self._cache.enhance(query, params, explain=explain)

    async def check(self) -> None:
        if self._cache is None:
            self._cache = await self._connect()
        await self._cache.check()

    async def aclose(self) -> None:
        if self._cache is not None:
            await self._cache.aclose()

    async def _connect(self) -> Enhancer:
        clients = await asyncio.gather(
            *(
                CacheClient.connect(url, token=self._token, fit=self._fit, timeout=self._timeout)
                for url in self._urls
            ),
            return_exceptions=True,
        )
        connected = [client for client in clients if isinstance(client, CacheClient)]
        try:
            for client in clients:
                if isinstance(client, BaseException):
                    raise client
            return connected[0] if len(connected) == 1 else ShardedCache(connected)
        except BaseException:
            await asyncio.gather(*(client.aclose() for client in connected))
            raise
