"""Convert released files to a model folder, and a released FAISS index to the model's retrieval
cache.

Combines the converter of `model_ext` and the cache builder of `cache_index`.
"""

from pathlib import Path

import torch

from cache_index.build import import_index
from cache_index.errors import CacheError
from model_ext.config import BindServeConfig, EncodersConfig
from model_ext.convert.encoders_alone import EncoderSource as EncoderSource
from model_ext.convert.encoders_alone import write_encoders
from model_ext.convert.model import Options as Options
from model_ext.convert.model import write_folder
from model_ext.convert.sources import Sources as Sources
from model_ext.weights.folder import new_folder
from server.conditioning.open_cache import encoder_of

CACHE = "cache"


def dtype_of(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def run(
    sources: Sources, out: Path, options: Options, knn_index: Path | None = None
) -> BindServeConfig:
    """Write the model folder `out`. It appears only when the model and its cache are complete."""
    with new_folder(out) as folder:
        config = write_folder(sources, folder, options, cache=CACHE if knn_index else None)
        add_cache(knn_index, folder, config)
        return config


def run_encoders(source: EncoderSource, out: Path, knn_index: Path | None = None) -> EncodersConfig:
    """Write the model folder `out` with encoders and a cache, but without a language model."""
    with new_folder(out) as folder:
        config = write_encoders(source, folder, cache=CACHE if knn_index else None)
        add_cache(knn_index, folder, config)
        return config


def add_cache(knn_index: Path | None, folder: Path, config: EncodersConfig) -> None:
    if knn_index:
        encoder = encoder_of(config.provenance)
        manifest = import_index(knn_index, folder / CACHE, encoder=encoder, overwrite=True)
        check_width(knn_index, manifest.dimension, config.imagebind.embedding_dim)


def check_width(index: Path, width: int, expected: int) -> None:
    if width != expected:
        raise CacheError(
            f"{index}: vectors of {width} numbers, but the encoders' embeddings have {expected}"
        )
