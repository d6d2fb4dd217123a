"""Conversion: released files in, a model folder out; with an index, its cache too.

Joins the converter and the cache builder, which do not know each other.
"""

from pathlib import Path

import torch

from cache_index.build import import_index
from cache_index.errors import CacheError
from model_ext.config import BindServeConfig, Provenance
from model_ext.convert.model import Options as Options
from model_ext.convert.model import write_folder
from model_ext.convert.sources import Sources as Sources
from model_ext.weights.folder import new_folder

CACHE = "cache"


def dtype_of(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def run(
    sources: Sources, out: Path, options: Options, knn_index: Path | None = None
) -> BindServeConfig:
    """`out` appears when model and cache are complete."""
    with new_folder(out) as folder:
        config = write_folder(sources, folder, options, cache=CACHE if knn_index else None)
        if knn_index:
            encoder = encoder_of(config.provenance)
            manifest = import_index(knn_index, folder / CACHE, encoder=encoder, overwrite=True)
            check_width(knn_index, manifest.dimension, config.imagebind.embedding_dim)
        return config


def check_width(index: Path, found: int, expected: int) -> None:
    if found != expected:
        raise CacheError(f"{index}: vectors of {found} numbers, but the encoders give {expected}")


def encoder_of(provenance: Provenance) -> dict[str, str]:
    """Which encoders the index is said to come from; a server refuses a cache of others."""
    weights = next(source for source in provenance.sources if source.role == "imagebind")
    return {"sha256": weights.sha256}
