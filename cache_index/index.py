"""CacheIndex: an opened cache folder. Search, gather and enhance for a batch of queries.

Not safe to call from two threads (a GPU index is not); `owner.py` gives it one thread of its own
and batches concurrent requests.

Shapes: B queries, K neighbors each, N rows in the cache, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.captions import Captions
from cache_index.device import place
from cache_index.enhance import Array, CacheParams, enhance
from cache_index.errors import CacheError, QueryError
from cache_index.manifest import (
    INDEX,
    REBUILD,
    Encoder,
    Manifest,
    check_encoder,
    check_files,
    read_manifest,
)
from cache_index.reader import read_index
from cache_index.vectors import Ids, Vectors


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Best first. Where FAISS found fewer than K, the id is -1 and the similarity 0."""

    ids: Ids  # (B, K) row numbers
    similarity: Array  # (B, K)

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.ids >= 0


@dataclass(frozen=True, slots=True)
class Enhanced:
    vectors: Array  # (B, D)
    neighbors: Neighbors  # K is the largest top_k of the batch; each row used its own first top_k


class CacheIndex:
    def __init__(
        self, folder: Path, manifest: Manifest, searcher: Any, vectors: Vectors, captions: Captions
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.captions = captions  # captions[row]
        self._searcher = searcher  # faiss.Index
        self._vectors = vectors

    @classmethod
    def open(
        cls, folder: Path, *, expect_encoder: Encoder | None = None, verify: bool = True
    ) -> "CacheIndex":
        """Check everything, then read. `verify=False` skips the sha256 of the files, not sizes."""
        manifest = read_manifest(folder)
        if expect_encoder is not None:
            check_encoder(folder, manifest, expect_encoder)
        check_files(folder, manifest, verify=verify)
        searcher = read_index(folder / INDEX)
        held, promised = (searcher.ntotal, searcher.d), (manifest.count, manifest.dimension)
        if held != promised:
            raise CacheError(
                f"{folder / INDEX}: holds (count, dimension) {held}, "
                f"its manifest says {promised}; {REBUILD}"
            )
        for name, value in manifest.search.items():
            try:
                faiss.ParameterSpace().set_index_parameter(searcher, name, value)
            except RuntimeError:
                raise CacheError(
                    f"{folder}: search parameter {name} does not fit {manifest.kind}; {REBUILD}"
                ) from None
        vectors, captions = Vectors.open(folder, manifest), Captions.open(folder, manifest)
        return cls(folder, manifest, place(searcher), vectors, captions)

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, queries: Array, top_k: int) -> Neighbors:
        """The top_k rows with the largest inner product with each query (B, D)."""
        check_queries(queries, self.dimension)
        similarity, ids = self._searcher.search(np.ascontiguousarray(queries, np.float32), top_k)
        return Neighbors(ids, np.where(ids >= 0, similarity, np.float32(0)))

    def gather(self, ids: Ids) -> Array:
        """The vectors (..., D) of row numbers (...)."""
        return self._vectors.gather(ids)

    def enhance(self, queries: Array, params: Sequence[CacheParams]) -> Enhanced:
        """Pull each query (B, D) towards its neighbors, each with its own parameters."""
        neighbors = self.search(queries, max(p.top_k for p in params))
        prototypes = self.gather(neighbors.ids)
        vectors = enhance(queries, neighbors.similarity, neighbors.hit, prototypes, params)
        return Enhanced(vectors, neighbors)

    def close(self) -> None:
        self.captions.close()


def check_queries(queries: Array, dimension: int) -> None:
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise QueryError(
            f"expected queries of shape (B, {dimension}) for this cache, got {queries.shape}"
        )
    if not np.isfinite(queries).all():
        raise QueryError("a query holds NaN or infinity")
