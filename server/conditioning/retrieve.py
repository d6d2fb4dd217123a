"""Retrieve: pull a mixed embedding towards the images of the cache that resemble it.

The mathematics and the index belong to `cache_index`; this is its client. A request may turn the
cache off or set its parameters; what happened is told in the response. When the cache cannot be
asked, the operator's policy decides; a watcher notices when it is back, requests or not.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import Literal

from cache_index.enhance import CacheParams
from cache_index.enhancer import EnhancedRow, Enhancer
from cache_index.errors import CacheBusy, CacheError, CacheUnavailable, QueryError
from model_ext.conditioning import Vector
from server.conditioning.options import CacheOptions, CacheState, ImageBindOptions, NeighborPart
from server.errors import BadRequest, Unavailable
from server.metrics import CACHE_UP, RETRIEVALS

logger = logging.getLogger(__name__)

Policy = Literal["off", "refuse"]

WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Retrieved:
    embedding: Vector  # (D,)
    state: CacheState
    neighbors: tuple[NeighborPart, ...] = ()


class Retriever:
    def __init__(self, cache: Enhancer | None, *, policy: Policy = "refuse") -> None:
        """`policy`, when the cache cannot be asked: "off" answers without it and says so,
        "refuse" answers 503."""
        self.trouble: CacheError | None = None  # why the cache cannot be asked now
        self._cache = cache
        self._policy = policy
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """CacheError if the cache is not one for this model; one that does not answer may later."""
        if self._cache is None:
            return
        with contextlib.suppress(CacheUnavailable):
            await self._check()
        self._watcher = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._cache is not None:
            await self._cache.aclose()

    @property
    def available(self) -> bool:
        """Whether the model is served with a cache."""
        return self._cache is not None

    @property
    def refuses(self) -> bool:
        """Whether requests that want the cache are refused now."""
        return self.trouble is not None and self._policy == "refuse"

    async def retrieve(self, mixed: Vector, options: ImageBindOptions) -> Retrieved:
        """A mixed embedding (D,) -> (D,), of unit length if the cache is on."""
        retrieved = await self._retrieve(mixed, options)
        RETRIEVALS.labels(retrieved.state).inc()
        return retrieved

    def params(self, options: ImageBindOptions) -> CacheParams | None:
        """None: do not use the cache. BadRequest if the model has none, or for a bad parameter."""
        wanted = options.cache
        if wanted is None:
            wanted = self.available
        if wanted is False:
            return None
        if self._cache is None:
            raise BadRequest("this model is served without a cache", param="imagebind.cache")
        given = wanted.given() if isinstance(wanted, CacheOptions) else {}
        try:
            return replace(self._cache.defaults, **given)
        except QueryError as error:
            raise BadRequest(str(error), param="imagebind.cache") from None

    async def _retrieve(self, mixed: Vector, options: ImageBindOptions) -> Retrieved:
        params = self.params(options)
        if params is None or self._cache is None:
            return Retrieved(mixed, "off")
        try:
            row = await self._cache.enhance(mixed, params, explain=options.explain)
        except CacheBusy:
            return self._without(mixed, "the cache is busy", "cache_queue_full")
        except CacheError as error:
            self._note(error)
            told = "the cache is unavailable; send imagebind.cache = false to do without it"
            return self._without(mixed, told, "cache_unavailable")
        self._note(None)
        return Retrieved(row.vector, "on", neighbors(row) if options.explain else ())

    def _without(self, mixed: Vector, told: str, code: str) -> Retrieved:
        if self._policy == "off":
            return Retrieved(mixed, "unavailable")
        RETRIEVALS.labels("refused").inc()
        raise Unavailable(told, param="imagebind.cache", code=code)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            with contextlib.suppress(CacheError):
                await self._check()

    async def _check(self) -> None:
        assert self._cache is not None
        try:
            await self._cache.check()
        except CacheError as error:
            self._note(error)
            raise
        self._note(None)

    def _note(self, trouble: CacheError | None) -> None:
        """Told once when it goes and once when it comes back, not with every request."""
        CACHE_UP.set(trouble is None)
        if trouble is not None and type(trouble) is not type(self.trouble):
            done = {"off": "answered without it", "refuse": "refused"}[self._policy]
            logger.warning("the cache cannot be asked, requests are %s: %s", done, trouble)
        if trouble is None and self.trouble is not None:
            logger.info("the cache answers again")
        self.trouble = trouble


def neighbors(row: EnhancedRow) -> tuple[NeighborPart, ...]:
    found = zip(row.ids.tolist(), row.similarity.tolist(), row.captions, strict=True)
    return tuple(
        NeighborPart(row=number, similarity=similarity, caption=told.caption, id=told.id)
        for number, similarity, told in found
    )
