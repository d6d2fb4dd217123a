"""Retrieve: pull a mixed embedding towards the images of the cache that resemble it.

The mathematics and the index belong to `cache_index`; this is its client. A request may turn the
cache off or set its parameters; what happened is told in the response.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cache_index.enhance import CacheParams
from cache_index.errors import CacheBusy, CacheError, QueryError
from cache_index.index import CacheIndex
from cache_index.manifest import Encoder, read_manifest
from cache_index.owner import EnhancedRow, IndexOwner
from server.errors import BadRequest, Unavailable
from server.mix import Array
from server.protocol import CacheOptions, CacheState, ImageBindOptions, NeighborPart

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieved:
    embedding: Array  # (D,)
    state: CacheState
    neighbors: tuple[NeighborPart, ...] = ()


class Retriever:
    def __init__(self, owner: IndexOwner | None, *, optional: bool = False) -> None:
        """`optional`: answer without the cache when it fails, instead of with 503."""
        self._owner = owner
        self._optional = optional

    @classmethod
    def open(
        cls, folder: Path | None, embedding_dim: int, encoder: Encoder, *, optional: bool = False
    ) -> Self:
        """`encoder` says which weights the model's embeddings come from. CacheError names what is
        wrong with the folder, other weights among it."""
        if folder is None:
            return cls(None, optional=optional)
        told = read_manifest(folder).encoder.keys() >= encoder.keys()
        if not told:
            logger.warning("%s does not say which encoder its features come from", folder)
        index = CacheIndex.open(folder, expect_encoder=encoder if told else None)
        if index.dimension != embedding_dim:
            raise CacheError(
                f"{folder}: holds vectors of {index.dimension} numbers, the model's "
                f"embeddings have {embedding_dim}; build it with this model's encoders"
            )
        return cls(IndexOwner(index), optional=optional)

    @property
    def available(self) -> bool:
        return self._owner is not None

    def close(self) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner.index.close()

    async def retrieve(self, mixed: Array, options: ImageBindOptions) -> Retrieved:
        """A mixed embedding (D,) -> (D,), of unit length if the cache is on."""
        params = self.params(options)
        if params is None or self._owner is None:
            return Retrieved(mixed, "off")
        try:
            row = await self._owner.enhance(mixed, params)
        except CacheBusy:
            raise Unavailable("the cache is busy", code="cache_queue_full") from None
        except CacheError:
            if self._optional:
                return Retrieved(mixed, "unavailable")
            raise Unavailable(
                "the cache is unavailable; send imagebind.cache = false to do without it",
                param="imagebind.cache",
                code="cache_unavailable",
            ) from None
        return Retrieved(row.vector, "on", self._neighbors(row) if options.explain else ())

    def params(self, options: ImageBindOptions) -> CacheParams | None:
        """None: do not use the cache. BadRequest if the model has none, or for a bad parameter."""
        wanted = options.cache
        if wanted is None:
            wanted = self.available
        if wanted is False:
            return None
        if self._owner is None:
            raise BadRequest("this model is served without a cache", param="imagebind.cache")
        given = wanted.given() if isinstance(wanted, CacheOptions) else {}
        try:
            return replace(self._owner.index.manifest.defaults, **given)
        except QueryError as error:
            raise BadRequest(str(error), param="imagebind.cache") from None

    def _neighbors(self, row: EnhancedRow) -> tuple[NeighborPart, ...]:
        assert self._owner is not None
        captions = self._owner.index.captions
        neighbors = []
        for number, similarity in zip(row.ids.tolist(), row.similarity.tolist(), strict=True):
            found = captions[number]
            neighbors.append(
                NeighborPart(row=number, similarity=similarity, caption=found.caption, id=found.id)
            )
        return tuple(neighbors)
