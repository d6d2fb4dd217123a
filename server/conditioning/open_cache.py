"""Open the retrieval cache that the setting `--cache` names.

The cache is a folder, the model's own cache, or one or more retrieval services. The value `none`
disables the cache. `retrieve.py` uses the open cache.
"""

from collections.abc import Iterable
from pathlib import Path

from cache_index.device import AUTO, Placement
from cache_index.enhancer import Enhancer
from cache_index.errors import CacheError
from cache_index.fit import Fit
from cache_index.index import CacheIndex
from cache_index.manifest import EncoderIdentity, Manifest, read_manifest
from cache_index.owner import IndexOwner
from cache_index.remote import RemoteCache
from cache_index.token import read_token
from model_ext.config import EncodersConfig, Provenance
from server.settings import Settings


def open_cache(settings: Settings, config: EncodersConfig) -> Enhancer | None:
    """Open the cache. Does not wait until a retrieval service answers.

    Raises CacheError: when a folder is damaged, or belongs to another model.
    """
    source = cache_source(settings, config)
    fit = fit_of(config)
    match source:
        case None:
            return None
        case Path():
            placement = Placement(settings.cache_device, settings.cache_gpu_bytes)
            return open_folder(source, fit, placement)
    return open_services(source, fit, settings)


def open_folder(folder: Path, fit: Fit, placement: Placement = AUTO) -> IndexOwner:
    fit.check(folder, read_manifest(folder))
    return IndexOwner(CacheIndex.open(folder, placement=placement))


def open_services(urls: tuple[str, ...], fit: Fit, settings: Settings) -> RemoteCache:
    token = read_token(settings.cache_token_file) if settings.cache_token_file else None
    return RemoteCache(urls, fit, token=token, timeout=settings.cache_timeout_s)


def cache_source(settings: Settings, config: EncodersConfig) -> Path | tuple[str, ...] | None:
    """Parse the setting `--cache`: a folder, URLs separated by commas, or `none`.

    Returns None without a cache. Without the setting, returns the model's own cache, if any.
    """
    if settings.cache == "none":
        return None
    if settings.cache is None:
        return settings.model / config.cache.folder if config.cache.folder else None
    if "://" not in settings.cache:
        return Path(settings.cache)
    urls = tuple(url.strip() for url in settings.cache.split(","))
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise CacheError(f"--cache {settings.cache}: {url!r} is no http or https URL")
    return urls


def fit_of(config: EncodersConfig) -> Fit:
    return Fit(config.imagebind.embedding_dim, encoder_of(config.provenance))


def encoder_of(provenance: Provenance) -> EncoderIdentity:
    """Describe the encoders' weights with which a cache's features must have been computed."""
    weights = [source.sha256 for source in provenance.sources if source.role == "imagebind"]
    return {"sha256": weights[0]} if weights else {}


def dtype_difference(manifests: Iterable[Manifest], dtype: str | None) -> str | None:
    """Return a warning if the encoders that made the cache had another dtype than `dtype`.

    `dtype`: the dtype of this server's encoders. Old manifests and imported indexes record no
    dtype, so they cause no warning.
    """
    for manifest in manifests:
        built = manifest.encoder.get("dtype")
        if built and dtype and built != dtype:
            return (
                f"the cache was built with encoders in {built}, this server's encoders are in "
                f"{dtype}: similarities differ slightly; build the cache again or set encode_dtype"
            )
    return None
