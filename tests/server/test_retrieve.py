"""The cache's states and parameters; the mathematics is tested with `cache_index`."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cache_index.errors import CacheBusy, CacheError
from server.errors import BadRequest, Unavailable
from server.protocol import ImageBindOptions, take_options
from server.retrieve import Retriever

DIM = 40
GOLDEN = load_file(Path(__file__).parents[1] / "fixtures" / "golden" / "visual.safetensors")
MIXED = GOLDEN["image_audio/mixed"][0]


@pytest.fixture(params=["knn.index", "knn-ivf.index"])
def index(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def retriever(tiny_models: dict[str, Path], index: str) -> Iterator[Retriever]:
    retriever = Retriever.open(tiny_models[index], DIM, {})
    yield retriever
    retriever.close()


def options(**imagebind: object) -> ImageBindOptions:
    return take_options({"imagebind": imagebind})


def enhanced(index: str, parameters: str) -> np.ndarray:
    return GOLDEN[f"image_audio/{index}/{parameters}/enhanced"][0]


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ({}, "size10_t20_w0.5"),  # on, because there is a cache
        ({"cache": True}, "size10_t20_w0.5"),
        ({"cache": {}}, "size10_t20_w0.5"),
        ({"cache": {"weight": 0}}, "size10_t20_w0"),
        ({"cache": {"top_k": 5, "temperature": 50, "weight": 0.8}}, "size5_t50_w0.8"),
        ({"cache": {"top_k": 1, "weight": 1.0}}, "size1_t20_w1"),
        ({"cache": {"top_k": 50, "temperature": 10.0, "weight": 0.3}}, "size50_t10_w0.3"),
    ],
)
async def test_matches_the_released_enhancement(
    retriever: Retriever, index: str, asked: dict[str, object], parameters: str
) -> None:
    retrieved = await retriever.retrieve(MIXED, options(**asked))
    assert retrieved.state == "on"
    np.testing.assert_allclose(retrieved.embedding, enhanced(index, parameters), rtol=0, atol=1e-6)


async def test_off_leaves_the_embedding(retriever: Retriever) -> None:
    retrieved = await retriever.retrieve(MIXED, options(cache=False))
    assert retrieved.state == "off"
    assert retrieved.embedding is MIXED


async def test_explain_returns_the_neighbors_best_first(retriever: Retriever) -> None:
    asked = options(cache={"top_k": 3}, explain=True)
    retrieved = await retriever.retrieve(MIXED, asked)
    similarity = [neighbor.similarity for neighbor in retrieved.neighbors]
    assert len(similarity) == 3
    assert similarity == sorted(similarity, reverse=True)
    assert (await retriever.retrieve(MIXED, options())).neighbors == ()


async def test_a_model_without_cache() -> None:
    retriever = Retriever.open(None, DIM, {})
    assert (await retriever.retrieve(MIXED, options())).state == "off"
    assert not retriever.available
    for cache in (True, {}):
        with pytest.raises(BadRequest, match="without a cache") as caught:
            await retriever.retrieve(MIXED, options(cache=cache))
        assert caught.value.param == "imagebind.cache"


@pytest.mark.parametrize("cache", [{"top_k": 2000}])
def test_what_the_cache_refuses_is_a_bad_request(retriever: Retriever, cache: object) -> None:
    with pytest.raises(BadRequest, match="top_k") as caught:
        retriever.params(options(cache=cache))
    assert caught.value.param == "imagebind.cache"


@pytest.mark.parametrize("optional", [False, True])
async def test_a_cache_that_fails(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, optional: bool
) -> None:
    retriever = Retriever.open(tiny_models["knn.index"], DIM, {}, optional=optional)

    async def fail(*_: object) -> None:
        raise CacheError("/secret/path")

    monkeypatch.setattr(retriever._owner, "enhance", fail)
    if optional:
        retrieved = await retriever.retrieve(MIXED, options())
        assert (retrieved.state, retrieved.embedding is MIXED) == ("unavailable", True)
    else:
        with pytest.raises(Unavailable) as caught:
            await retriever.retrieve(MIXED, options())
        assert caught.value.code == "cache_unavailable"
        assert "secret" not in caught.value.message
    retriever.close()


async def test_a_busy_cache_is_told(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> None:
        raise CacheBusy

    monkeypatch.setattr(retriever._owner, "enhance", busy)
    with pytest.raises(Unavailable, match="busy"):
        await retriever.retrieve(MIXED, options())


def test_a_cache_of_another_width_is_refused(tiny_models: dict[str, Path]) -> None:
    with pytest.raises(CacheError, match="40 numbers, the model's embeddings have 1024"):
        Retriever.open(tiny_models["knn.index"], 1024, {})


def test_a_cache_of_other_encoders_is_refused(
    tiny_models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(tiny_models["knn.index"], folder)
    with caplog.at_level(logging.WARNING):  # it does not say: that is told, not refused
        Retriever.open(folder, DIM, {"sha256": "ours"}).close()
    assert "does not say which encoder" in caplog.text
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "encoder": {"sha256": "other"}}))
    with pytest.raises(CacheError, match="built with another encoder"):
        Retriever.open(folder, DIM, {"sha256": "ours"})
    Retriever.open(folder, DIM, {"sha256": "other"}).close()
