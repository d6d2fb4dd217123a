"""CacheIndex: an opened cache folder.

For a batch of queries, it searches neighbors, reads their vectors (gathers), and computes the
enhanced embeddings. Call it from one thread only, because FAISS's GPU indexes allow one thread.
`owner.py` has one thread per index and batches concurrent requests.

Shapes: B queries, K neighbors each, N rows in the cache, D embedding dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss

from cache_index.captions import Captions
from cache_index.device import AUTO, Placement, place
from cache_index.enhance import Array, CacheParams, enhance
from cache_index.errors import CacheError
from cache_index.manifest import (
    INDEX,
    REBUILD,
    EncoderIdentity,
    Manifest,
    check_encoder,
    check_files,
    read_manifest,
)
from cache_index.reader import read_index
from cache_index.searcher import Neighbors, Searcher
from cache_index.vectors import Ids, Vectors


@dataclass(frozen=True, slots=True)
class Enhanced:
    vectors: Array  # Enhanced queries (B, D).
    neighbors: Neighbors  # K is the largest top_k; queries with a smaller top_k have fewer hits.


class CacheIndex:
    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        searcher: Searcher,
        captions: Captions,
        placement: Placement = AUTO,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.captions = captions  # captions[i] belongs to row i
        self.searcher = searcher
        self.placement = placement

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        expect_encoder: EncoderIdentity | None = None,
        verify: bool = True,
        mapped: bool = True,
        placement: Placement = AUTO,
    ) -> "CacheIndex":
        """Check all files, and then read them. `verify=False`: checks the sizes of the files, but
        not their sha256.

        `mapped=True`: memory-maps the index file, so that the kernel reads pages on first use.
        `mapped=False`: reads the whole file into memory. Raises CacheError: when a file is damaged
        or does not fit the manifest.
        """
        manifest = read_manifest(folder)
        if expect_encoder is not None:
            check_encoder(folder, manifest, expect_encoder)
        check_files(folder, manifest, verify=verify)
        index = read_index(folder / INDEX, mapped=mapped)
        actual, expected = (index.ntotal, index.d), (manifest.count, manifest.dimension)
        if actual != expected:
            raise CacheError(
                f"{folder / INDEX}: holds (count, dimension) {actual}, "
                f"its manifest says {expected}; {REBUILD}"
            )
        has_cells = isinstance(index, faiss.IndexIVF)
        if has_cells != (manifest.search.nprobe is not None):
            raise CacheError(
                f"{folder / INDEX}: nprobe is set, but only IVF indexes have it; {REBUILD}"
            )
        vectors = Vectors.open(folder, manifest)
        if not manifest.shuffled:
            index = place(index, vectors.rows, placement)
        searcher = Searcher(index, vectors)
        searcher.apply(manifest.search)
        return cls(folder, manifest, searcher, Captions.open(folder, manifest), placement)

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def __len__(self) -> int:
        return self.manifest.count

    def search(self, queries: Array, top_k: int | Sequence[int]) -> Neighbors:
        """Find the top_k rows with the largest inner product with each query (B, D)."""
        return self.searcher.search(queries, top_k)

    def gather(self, ids: Ids) -> Array:
        """Return the stored vectors (..., D) of row numbers (...)."""
        return self.searcher.vectors.gather(ids)

    def enhance(self, queries: Array, params: Sequence[CacheParams]) -> Enhanced:
        """Move each query (B, D) towards its neighbors. Each query has its own parameters."""
        neighbors = self.search(queries, [p.top_k for p in params])
        return Enhanced(
            enhance(queries, neighbors.similarity, neighbors.hit, neighbors.vectors, params),
            neighbors,
        )

    def close(self) -> None:
        self.captions.close()
