"""Describe what the server offers: the object `imagebind` of each model in /v1/models.

Clients, for example the web page, show a control only for what this object lists.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cache_index.enhance import MAX_TOP_K
from model_ext.config import BindServeConfig, EncodersConfig
from model_ext.imagebind.config import ENCODER_OF
from server.conditioning.retrieve import Retriever
from server.settings import DETECTOR, Settings
from server.side.catalog import enabled


def describe(
    settings: Settings, config: EncodersConfig, encoders: Sequence[str], retriever: Retriever
) -> dict[str, Any]:
    """`encoders`: the names of the encoders that the encoding service has loaded."""
    modalities = [modality for modality, name in ENCODER_OF.items() if name in encoders]
    sides = [side.name for side in enabled(settings)]
    return {
        "embedding_dim": config.imagebind.embedding_dim,
        "encoders": list(encoders),
        "modalities": modalities,
        "language_model": isinstance(config, BindServeConfig),
        "text_only": config.imagebind.text_only,
        "cache": retriever.available,
        "cache_defaults": retriever.default_options() if retriever.available else None,
        "limits": limits(settings, modalities),
        "experts": list(settings.enabled_experts),
        "decoder": "pictures" in sides,
        "detector": DETECTOR in sides,
        "provenance": asdict(config.provenance),
    }


def limits(settings: Settings, modalities: Sequence[str]) -> dict[str, Any]:
    """The largest values that a request may have. `file_bytes`: bytes of a file, by modality."""
    return {
        "attachments": settings.max_attachments,
        "file_bytes": {each: settings.limits.bytes_of(each) for each in modalities},
        "file_age_s": settings.file_age_s,
        "window_file_bytes": settings.max_window_file_bytes,
        "n": settings.max_n,
        "tokens": settings.max_tokens,
        "top_k": min(settings.max_cache_top_k, MAX_TOP_K),
    }
