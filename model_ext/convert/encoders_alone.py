"""Convert ImageBind's weights into a model folder without a language model."""

import json
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from model_ext.config import (
    ENCODERS_ALONE,
    CacheConfig,
    EncodersConfig,
    EncoderSummary,
    Provenance,
)
from model_ext.convert.encoders import open_encoders
from model_ext.convert.model import CONFIG, ENCODERS, progress_bar
from model_ext.convert.provenance import Licences, describe
from model_ext.manifest import sha256_of
from model_ext.weights.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSource:
    imagebind: Path  # a checkpoint, or a folder that contains one
    imagebind_config: Path | None = None
    modalities: tuple[str, ...] = ()  # names of encoders to keep; empty: all
    licences: Licences = field(default_factory=Licences)


def write_encoders(
    source: EncoderSource, folder: Path, *, cache: str | None = None, progress: bool = True
) -> EncodersConfig:
    """Write the model's files into an existing folder. `cache` is the name of the sub-folder in
    which the caller writes the index of the retrieval cache.

    Raises ConvertError: when the checkpoint is invalid or lacks one of the modalities.
    """
    encoders = open_encoders(source.imagebind, source.imagebind_config, source.modalities)
    bar = partial(progress_bar, shown=progress)
    with bar("sha256", sum(path.stat().st_size for path in encoders.files)) as done:
        sources = describe("imagebind", encoders.files, source.licences.imagebind, done)
    kept = encoders.config.modalities
    inputs = sha256_of([*(each.sha256 for each in sources), version("bindserve"), *kept])
    with bar("check finished files", None) as done:
        ledger = Ledger.open(folder, inputs, done)
    with bar("weights", encoders.size) as done:
        encoders.write(ledger, ENCODERS, done)
    sections = EncodersConfig(
        imagebind=EncoderSummary(modalities=kept, embedding_dim=encoders.config.embed_dim),
        cache=CacheConfig(folder=cache),
        provenance=Provenance(stage="encoders", sources=tuple(sources)),
    )
    config = {"architectures": [ENCODERS_ALONE], "model_type": "imagebind", **sections.to_hf()}
    ledger.rewrite(CONFIG, json.dumps(config, indent=2).encode() + b"\n")
    return sections
