"""Build a retrieval cache from the options of `bindserve cache build`.

Uses `cache_index` and, for media, the encoders. Determines from the source's name and content
whether it contains features, a FAISS index or media.
"""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from cache_index.build import Dtype, build_from_features, import_index
from cache_index.enhance import CacheParams, Form
from cache_index.errors import CacheError, QueryError
from cache_index.folder import INPUTS, begin_or_resume, check_free, locked
from cache_index.kinds import Target
from cache_index.manifest import EncoderIdentity, Manifest
from model_ext.config import read_sections
from model_ext.device import choose_device
from model_ext.errors import ConfigError
from model_ext.imagebind.dtype import choose_dtype
from model_ext.imagebind.model import TensorError
from server.cli.cache.media_features import encode_media
from server.cli.cache.media_list import FEATURES, LIST, MediaList, read_media_list
from server.cli.serve import load_settings
from server.conditioning.open_cache import encoder_of
from server.errors import RequestError

ERRORS = (
    *(CacheError, QueryError, ConfigError, TensorError),
    *(RequestError, OSError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command; `build.py` describes each of them."""

    source: Path
    out: Path
    model: Path | None
    modality: str
    allow_media_urls: bool
    keep_features: Path | None
    captions: Path | None
    kind: str
    target: Target
    memory: int | None
    recall: float
    queries: Path | None
    dtype: Dtype | None
    normalized: bool
    encoder_sha256: str | None
    top_k: int
    temperature: float
    weight: float
    form: Form
    overwrite: bool


def run(request: Request) -> Manifest:
    """Build the cache. Raises one of ERRORS: when the options or the source are wrong."""
    check_free(request.out, overwrite=request.overwrite)
    match source_kind(request.source, request.modality):
        case "media":
            return from_media(request)
        case "features":
            return from_features(request, request.source, encoder(request))
    return from_index(request)


def source_kind(source: Path, modality: str) -> Literal["features", "index", "media"]:
    if not source.exists():
        raise CacheError(f"{source}: no such file or folder")
    if source.is_dir():
        has_features = any(path.suffix in FEATURES for path in source.iterdir())
        return "features" if has_features and modality == "image" else "media"
    if source.suffix in LIST:
        return "media"
    return "features" if source.suffix in FEATURES else "index"


def from_media(request: Request) -> Manifest:
    """Embed media into a folder of features, then build from these features."""
    if request.model is None:
        raise CacheError(
            f"{request.source}: add --model, whose encoders embed media "
            f"(a folder of features contains {' or '.join(FEATURES)} files)"
        )
    if request.captions:
        raise CacheError("--captions applies to features; media have .txt files or a list")
    media = read_media_list(request.source, urls=request.allow_media_urls)
    provenance = encoder(request)
    features = request.keep_features or request.out.parent / f".{request.out.name}.features"
    inputs = [provenance, request.modality, media.fingerprint]
    features.mkdir(parents=True, exist_ok=True)
    with locked(features):
        if request.keep_features and is_foreign(features):
            raise CacheError(f"{features}: not an unfinished build; choose another --keep-features")
        begin_or_resume(features, json.dumps(inputs))
        with tqdm(total=media.count, desc="encode", unit="file") as bar:
            settings = load_settings(model=request.model)
            rows = asyncio.run(encode_media(media, request.modality, settings, features, bar))
        report(media, rows)
        dtype = choose_dtype(settings.encode_dtype, choose_device(settings.encode_device))
        origin = {**provenance, "modality": request.modality, "dtype": dtype}
        manifest = from_features(request, features, origin)
    if not request.keep_features:
        shutil.rmtree(features)
    return manifest


def is_foreign(folder: Path) -> bool:
    """Whether the folder contains files that were not written by an earlier build."""
    return not (folder / INPUTS).exists() and any(folder.iterdir())


def report(media: MediaList, rows: int) -> None:
    if rows == 0:
        raise CacheError(f"{media.source}: none of {media.count} files could be embedded")
    if skipped := media.count - rows:
        tqdm.write(f"skipped {skipped} of {media.count} files")


def from_features(request: Request, features: Path, provenance: EncoderIdentity) -> Manifest:
    return build_from_features(
        features,
        request.out,
        captions=request.captions,
        kind=request.kind,
        target=request.target,
        memory=request.memory,
        dtype=request.dtype or "float16",
        normalized=request.normalized,
        queries=request.queries,
        recall=request.recall,
        encoder=provenance,
        defaults=defaults(request),
        overwrite=request.overwrite,
    )


def from_index(request: Request) -> Manifest:
    if request.kind != "auto":
        raise CacheError("--kind applies to features and media; an index keeps its kind")
    return import_index(
        request.source,
        request.out,
        captions=request.captions,
        dtype=request.dtype or "float32",
        encoder=encoder(request),
        defaults=defaults(request),
        overwrite=request.overwrite,
    )


def defaults(request: Request) -> CacheParams:
    return CacheParams(request.top_k, request.temperature, request.weight, request.form)


def encoder(request: Request) -> dict[str, str]:
    """Return the origin of the features for the cache's manifest, or {} if it is unknown."""
    if request.encoder_sha256:
        if request.model:
            raise CacheError(
                "--encoder-sha256: --model already names the encoder; omit one of them"
            )
        return {"sha256": request.encoder_sha256}
    if request.model is None:
        return {}
    load_settings(model=request.model)  # exits with an error if this is not a model folder
    config = read_sections(request.model)
    return dict(encoder_of(config.provenance))
