"""The setting `--cache`: values with which the server opens a cache, and values with which it does
not start.
"""

import json
import logging
import shutil
from pathlib import Path

import pytest

from cache_index.errors import CacheError
from cache_index.fit import Fit
from cache_index.manifest import read_manifest
from cache_index.owner import IndexOwner
from cache_index.remote import RemoteCache
from cache_index.token import read_token
from model_ext.config import BindServeConfig
from server.conditioning.open_cache import (
    cache_source,
    dtype_difference,
    fit_of,
    open_cache,
    open_folder,
)
from server.settings import Settings

DIM = 40


@pytest.fixture
def document(tiny_models: dict[str, Path]) -> dict[str, object]:
    text = (tiny_models["finetune"] / "config.json").read_text()
    found: dict[str, object] = json.loads(text)
    return found


def test_which_cache(document: dict[str, object]) -> None:
    without = BindServeConfig.from_hf(document)
    own = BindServeConfig.from_hf({**document, "cache": {"folder": "cache"}})

    def source(config: BindServeConfig, cache: str | None) -> object:
        return cache_source(Settings(model=Path("m"), cache=cache), config)

    assert source(without, None) is None
    assert source(own, None) == Path("m/cache")
    assert source(own, "none") is None
    assert source(own, "other") == Path("other")
    assert source(own, "http://a:1") == ("http://a:1",)
    assert source(own, "http://a:1, https://b/x") == ("http://a:1", "https://b/x")
    for wrong in ("ftp://a", "http://a,", "http://a,folder"):
        with pytest.raises(CacheError, match=r"'.*' is no http or https URL"):
            source(own, wrong)


async def test_what_is_opened(
    document: dict[str, object], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    config = BindServeConfig.from_hf(document)
    (tmp_path / "token").write_text("secret\n")

    def settings(cache: object) -> Settings:
        token = tmp_path / "token"
        return Settings(model=Path("m"), cache=str(cache), cache_token_file=token)

    assert open_cache(settings("none"), config) is None
    folder = open_cache(settings(tiny_models["knn.index"]), config)
    assert isinstance(folder, IndexOwner)
    await folder.aclose()
    service = open_cache(settings("http://127.0.0.1:1"), config)
    assert isinstance(service, RemoteCache)
    assert (service.dimension, service._token) == (DIM, "secret")
    (tmp_path / "token").unlink()
    with pytest.raises(FileNotFoundError):
        open_cache(settings("http://127.0.0.1:1"), config)


def test_the_model_says_what_fits(document: dict[str, object]) -> None:
    fit = fit_of(BindServeConfig.from_hf(document))
    sources = document["provenance"]["sources"]  # type: ignore[index]
    (own,) = (s["sha256"] for s in sources if s["file"] == "imagebind_w3D.pth")
    assert fit == Fit(DIM, {"sha256": own})


@pytest.mark.parametrize("text", ["", " \n", "a\nb", "ключ", "a\x00"])
def test_a_file_that_holds_no_token(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(CacheError, match="expected a token"):
        read_token(tmp_path / "token")


def test_a_cache_of_another_width(tiny_models: dict[str, Path]) -> None:
    message = "holds vectors of 40 numbers, the model's embeddings have 1024"
    with pytest.raises(CacheError, match=message):
        open_folder(tiny_models["knn.index"], Fit(1024))


async def test_a_cache_of_other_encoders(
    tiny_models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(tiny_models["knn.index"], folder)
    # If a cache's manifest names no encoder, the server logs a warning and opens the cache.
    with caplog.at_level(logging.WARNING):
        await open_folder(folder, Fit(DIM, {"sha256": "ours"})).aclose()
    assert "does not say which encoder its features come from" in caplog.text
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "encoder": {"sha256": "other"}}))
    with pytest.raises(CacheError, match="built with another encoder"):
        open_folder(folder, Fit(DIM, {"sha256": "ours"}))
    await open_folder(folder, Fit(DIM, {"sha256": "other"})).aclose()


@pytest.mark.parametrize(
    ("built", "served", "differs"),
    [
        ("float32", "bfloat16", True),
        ("bfloat16", "bfloat16", False),
        (None, "bfloat16", False),  # An old manifest contains no dtype.
        ("float32", None, False),
    ],
)
def test_a_cache_of_another_dtype_is_reported(
    tiny_models: dict[str, Path], built: str | None, served: str | None, differs: bool
) -> None:
    manifest = read_manifest(tiny_models["knn.index"])
    manifest = manifest.model_copy(update={"encoder": {"dtype": built} if built else {}})
    message = dtype_difference([manifest], served)
    assert (message is not None) == differs
    assert message is None or ("float32" in message and "bfloat16" in message)
