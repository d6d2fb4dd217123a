"""Retrieve: move a mixed embedding towards similar image embeddings in the retrieval cache.

`cache_index` contains the index and the mathematics. A request can disable the cache or set its
parameters, and the response states whether the cache was used. When the cache cannot be reached,
the operator's policy decides whether requests are rejected. A task checks every WATCH_S seconds
whether the cache can be reached again.

Shapes: D embedding dimensions.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import Literal

from cache_index.captions import Caption
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
    embedding: Vector  # the embedding (D,) after retrieval
    state: CacheState
    neighbors: tuple[NeighborPart, ...] = ()


class Retriever:
    def __init__(self, cache: Enhancer | None, *, policy: Policy = "refuse") -> None:
        """`policy`: what happens when the cache cannot be reached. "off": the server answers
        without the cache, and a response header states this. "refuse": the server rejects the
        request with status 503.
        """
        self.trouble: CacheError | None = None  # why the cache cannot be reached now, or None
        self._cache = cache
        self._policy = policy
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Check the cache now, and then regularly. Accepts a cache that does not answer yet.

        Raises CacheError: when the cache belongs to another model.
        """
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
        """Whether the server has a retrieval cache for the model."""
        return self._cache is not None

    @property
    def refuses(self) -> bool:
        """Whether requests that use the cache are rejected at the moment."""
        return self.trouble is not None and self._policy == "refuse"

    def params(self, options: ImageBindOptions) -> CacheParams | None:
        """Return the parameters for one request, or None when the request does not use the cache.

        Raises BadRequest: when the model has no cache, or a parameter is wrong.
        """
        choice = self.available if options.cache is None else options.cache
        if choice is False:
            return None
        if self._cache is None:
            raise BadRequest("this model is served without a cache", param="imagebind.cache")
        values = choice.values() if isinstance(choice, CacheOptions) else {}
        try:
            return replace(self._cache.defaults, **values)
        except QueryError as error:
            raise BadRequest(str(error), param="imagebind.cache") from None

    async def retrieve(
        self, mixed: Vector, params: CacheParams | None, *, explain: bool = False
    ) -> Retrieved:
        """Move a mixed embedding (D,). The result (D,) has unit length if the cache was used.

        `params`: the result of the method `params`.
        Raises Unavailable: when the cache cannot be reached and the policy is "refuse".
        """
        retrieved = await self._retrieve(mixed, params, explain)
        RETRIEVALS.labels(retrieved.state).inc()
        return retrieved

    async def _retrieve(
        self, mixed: Vector, params: CacheParams | None, explain: bool
    ) -> Retrieved:
        if params is None or self._cache is None:
            return Retrieved(mixed, "off")
        try:
            row = await self._cache.enhance(mixed, params, explain=explain)
        except CacheBusy:
            return self._without(mixed, "the cache is busy", "cache_queue_full")
        except CacheError as error:
            self._note(error)
            message = "the cache is unavailable; send imagebind.cache = false to answer without it"
            return self._without(mixed, message, "cache_unavailable")
        self._note(None)
        return Retrieved(row.vector, "on", neighbors(row) if explain else ())

    async def search(self, query: Vector, top_k: int) -> tuple[tuple[float, Caption], ...]:
        """Return the rows nearest to an embedding (D,) of length 1, with similarity and caption,
        best first.

        Raises BadRequest: when the server has no cache. Raises Unavailable: when the cache cannot
        be reached, also with the policy "off", because there is no result without the cache.
        """
        if self._cache is None:
            raise BadRequest("this model is served without a cache", code="no_cache")
        params = replace(self._cache.defaults, top_k=top_k)
        try:
            row = await self._cache.enhance(query, params, explain=True)
        except CacheBusy:
            raise Unavailable("the cache is busy", code="cache_queue_full") from None
        except CacheError as error:
            self._note(error)
            raise Unavailable("the cache is unavailable", code="cache_unavailable") from None
        self._note(None)
        return tuple(zip(row.similarity.tolist(), row.captions, strict=True))

    def _without(self, mixed: Vector, message: str, code: str) -> Retrieved:
        if self._policy == "off":
            return Retrieved(mixed, "unavailable")
        RETRIEVALS.labels("refused").inc()
        raise Unavailable(message, param="imagebind.cache", code=code)

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
        """Record in the metric whether the cache can be reached. Logs only changes of this state,
        not every request.
        """
        CACHE_UP.set(trouble is None)
        if trouble is not None and type(trouble) is not type(self.trouble):
            effect = {"off": "answered without it", "refuse": "rejected"}[self._policy]
            logger.warning("the cache cannot be reached, so requests are %s: %s", effect, trouble)
        if trouble is None and self.trouble is not None:
            logger.info("the cache answers again")
        self.trouble = trouble


def neighbors(row: EnhancedRow) -> tuple[NeighborPart, ...]:
    rows = zip(row.ids.tolist(), row.similarity.tolist(), row.captions, strict=True)
    return tuple(
        NeighborPart(row=number, similarity=similarity, caption=entry.caption, id=entry.id)
        for number, similarity, entry in rows
    )
