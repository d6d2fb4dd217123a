"""The retriever: parameters of requests, the state of the cache, and the two policies for a cache
that fails.

tests/cache_index test the results of a retrieval.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cache_index.errors import CacheBusy, CacheError, CacheUnavailable
from cache_index.fit import Fit
from server.conditioning import retrieve
from server.conditioning.open_cache import open_folder
from server.conditioning.options import ImageBindOptions, take_options
from server.conditioning.retrieve import Policy, Retrieved, Retriever
from server.errors import BadRequest, Unavailable
from server.metrics import CACHE_UP, RETRIEVALS

DIM = 40
GOLDEN = load_file(Path(__file__).parents[2] / "fixtures" / "golden" / "visual.safetensors")
MIXED = GOLDEN["image_audio/mixed"][0]


@pytest.fixture(params=["knn.index", "knn-ivf.index"])
def index(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def retriever(tiny_models: dict[str, Path], index: str) -> AsyncIterator[Retriever]:
    retriever = Retriever(open_folder(tiny_models[index], Fit(DIM)))
    yield retriever
    await retriever.close()


def options(**imagebind: object) -> ImageBindOptions:
    return take_options({"imagebind": imagebind})


def enhanced(index: str, parameters: str) -> np.ndarray:
    return GOLDEN[f"image_audio/{index}/{parameters}/enhanced"][0]


async def retrieve_mixed(retriever: Retriever, options: ImageBindOptions) -> Retrieved:
    """Parse the request's options and retrieve, as the conditioner does."""
    params = retriever.params(options)
    return await retriever.retrieve(MIXED, params, explain=options.explain)


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ({}, "size10_t20_w0.5"),  # By default, the retriever uses the cache.
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
    retrieved = await retrieve_mixed(retriever, options(**asked))
    assert retrieved.state == "on"
    np.testing.assert_allclose(retrieved.embedding, enhanced(index, parameters), rtol=0, atol=1e-6)


async def test_off_leaves_the_embedding(retriever: Retriever) -> None:
    retrieved = await retrieve_mixed(retriever, options(cache=False))
    assert retrieved.state == "off"
    assert retrieved.embedding is MIXED


async def test_explain_returns_the_neighbors_best_first(retriever: Retriever) -> None:
    asked = options(cache={"top_k": 3}, explain=True)
    retrieved = await retrieve_mixed(retriever, asked)
    similarity = [neighbor.similarity for neighbor in retrieved.neighbors]
    assert len(similarity) == 3
    assert similarity == sorted(similarity, reverse=True)
    assert (await retrieve_mixed(retriever, options())).neighbors == ()


async def test_a_model_without_cache() -> None:
    retriever = Retriever(None)
    await retriever.start()
    assert (await retrieve_mixed(retriever, options())).state == "off"
    assert not retriever.available
    for cache in (True, {}):
        with pytest.raises(BadRequest, match="without a cache") as caught:
            await retrieve_mixed(retriever, options(cache=cache))
        assert caught.value.param == "imagebind.cache"
    await retriever.close()


@pytest.mark.parametrize("cache", [{"top_k": 2000}])
async def test_what_the_cache_refuses_is_a_bad_request(retriever: Retriever, cache: object) -> None:
    with pytest.raises(BadRequest, match="top_k") as caught:
        retriever.params(options(cache=cache))
    assert caught.value.param == "imagebind.cache"


@pytest.mark.parametrize("policy", ["off", "refuse"])
async def test_a_cache_that_fails_and_comes_back(
    tiny_models: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    policy: Policy,
) -> None:
    retriever = Retriever(open_folder(tiny_models["knn.index"], Fit(DIM)), policy=policy)

    async def fail(*_: object, **__: object) -> None:
        raise CacheUnavailable("/secret/path")

    before = count("on"), count("unavailable"), count("refused")
    with monkeypatch.context() as patch:
        patch.setattr(retriever._cache, "enhance", fail)
        for _ in range(3):
            if policy == "off":
                retrieved = await retrieve_mixed(retriever, options())
                assert (retrieved.state, retrieved.embedding is MIXED) == ("unavailable", True)
            else:
                with pytest.raises(Unavailable) as caught:
                    await retrieve_mixed(retriever, options())
                assert caught.value.code == "cache_unavailable"
                assert caught.value.headers["Retry-After"]
                assert "secret" not in caught.value.message
    assert str(retriever.trouble) == "/secret/path"
    assert retriever.refuses == (policy == "refuse")
    assert CACHE_UP._value.get() == 0
    with caplog.at_level(logging.INFO):
        assert (await retrieve_mixed(retriever, options())).state == "on"
    assert (retriever.trouble, retriever.refuses, CACHE_UP._value.get()) == (None, False, 1)
    after = count("on"), count("unavailable"), count("refused")
    told = (3, 0) if policy == "off" else (0, 3)
    assert np.subtract(after, before).tolist() == [1, *told]
    lines = [r.message for r in caplog.records if r.name == retrieve.__name__]
    assert [line.split(",")[0] for line in lines] == [
        "the cache cannot be reached",  # three failed requests log only one line
        "the cache answers again",
    ]
    await retriever.close()


def count(state: str) -> float:
    value: float = RETRIEVALS.labels(state)._value.get()
    return value


@pytest.mark.parametrize("policy", ["off", "refuse"])
async def test_a_busy_cache(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    retriever = Retriever(open_folder(tiny_models["knn.index"], Fit(DIM)), policy=policy)

    async def busy(*_: object, **__: object) -> None:
        raise CacheBusy

    monkeypatch.setattr(retriever._cache, "enhance", busy)
    if policy == "off":
        assert (await retrieve_mixed(retriever, options())).state == "unavailable"
    else:
        with pytest.raises(Unavailable, match="busy") as caught:
            await retrieve_mixed(retriever, options())
        assert caught.value.code == "cache_queue_full"
    assert retriever.trouble is None  # a busy cache does not count as a failed cache
    await retriever.close()


async def test_the_watcher_notices_without_requests(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "WATCH_S", 0.001)
    checks: list[Exception | None] = [
        *(None, CacheUnavailable("gone"), CacheError("another encoder"), None),
    ]
    seen: list[tuple[str, bool]] = []

    async def check() -> None:
        seen.append((str(retriever.trouble), retriever.refuses))
        if checks and (error := checks.pop(0)):
            raise error

    monkeypatch.setattr(retriever._cache, "check", check)
    await retriever.start()
    while len(seen) < 5:
        await asyncio.sleep(0.001)
    told = ["None", "None", "gone", "another encoder", "None"]
    assert seen[:5] == [(each, each != "None") for each in told]


async def test_a_cache_that_does_not_fit_stops_the_start(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        raise CacheError("another encoder")

    monkeypatch.setattr(retriever._cache, "check", check)
    with pytest.raises(CacheError, match="another encoder"):
        await retriever.start()
