"""The retrieval client, with real, sharded and killed services on this machine."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.client import CacheClient
from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheError, CacheUnavailable, QueryError
from cache_index.fit import Fit
from cache_index.index import CacheIndex
from cache_index.remote import RemoteCache
from cache_index.sharded import ShardedCache
from tests.cache_index.services import PARAMS, Process, build, connected, free_port
from tests.cache_index.test_golden import BOUND, GOLDENS, INDEXES, VISUAL, split
from tests.server.waiting import until

Launch = Callable[..., Process]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Return a function that starts a service. The fixture ends all services after the test."""
    running: list[Process] = []

    def start(folder: Path, port: int | None = None) -> Process:
        running.append(Process(folder, port))
        return running[-1]

    yield start
    for process in running:
        process.end()


@pytest.fixture(scope="module")
def shards(features: Array, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two services: the first has rows 0 to 129 of a cache, and the second has rows 130 to 399."""
    folder = tmp_path_factory.mktemp("shards")
    parts = {"a": features[:130], "b": features[130:]}
    running = [Process(build(rows, folder / name)) for name, rows in parts.items()]
    yield running
    for process in running:
        process.end()


async def test_a_service_answers_as_in_process(shards: list[Process], queries: Array) -> None:
    index = CacheIndex.open(shards[1].folder)
    async with connected(shards[1].url) as client:
        rows = await asyncio.gather(
            *(client.enhance(query, PARAMS, explain=True) for query in queries)
        )
    direct = index.enhance(queries, [PARAMS] * len(queries))
    for i, row in enumerate(rows):
        np.testing.assert_allclose(row.vector, direct.vectors[i], atol=1e-6)
        assert np.array_equal(row.ids, direct.neighbors.ids[i])
        assert row.captions == tuple(index.captions[j] for j in row.ids.tolist())


@pytest.mark.parametrize("form", ["released", "paper"])
async def test_two_shards_answer_as_the_whole(
    shards: list[Process], whole: CacheIndex, queries: Array, form: str
) -> None:
    params = CacheParams(top_k=25, weight=0.7, form=form)  # type: ignore[arg-type]
    clients = [await CacheClient.connect(shard.url, token="secret") for shard in shards]
    cache = ShardedCache(clients)
    assert cache.dimension == 24
    for query in queries:
        row = await cache.enhance(query, params, explain=True)
        direct = whole.enhance(query[None], [params])
        assert np.array_equal(row.ids, direct.neighbors.ids[0])
        assert len({int(i) < 130 for i in row.ids}) == 2  # Both shards contribute neighbors.
        np.testing.assert_allclose(row.vector, direct.vectors[0], atol=1e-6)
        assert row.captions == tuple(whole.captions[i] for i in row.ids.tolist())
    await cache.aclose()


async def test_a_missing_shard_fails_the_request(
    shards: list[Process], features: Array, queries: Array, tmp_path: Path, launch: Launch
) -> None:
    mortal = launch(build(features[:50], tmp_path / "m"))
    clients = [
        await CacheClient.connect(process.url, token="secret") for process in (shards[0], mortal)
    ]
    cache = ShardedCache(clients)
    assert len((await cache.enhance(queries[0], PARAMS)).ids) == 9
    mortal.end()
    with pytest.raises(CacheUnavailable):
        await cache.enhance(queries[0], PARAMS)
    await cache.aclose()


async def test_shards_of_different_encoders(
    shards: list[Process], features: Array, tmp_path: Path, launch: Launch
) -> None:
    other = launch(build(features[:50], tmp_path / "o", encoder={"sha256": "x"}))
    clients = [await CacheClient.connect(p.url, token="secret") for p in (shards[0], other)]
    with pytest.raises(CacheError, match="different encoders"):
        ShardedCache(clients)
    for client in clients:
        await client.aclose()


async def test_wrong_token_encoder_and_query(shards: list[Process], queries: Array) -> None:
    url = shards[0].url
    with pytest.raises(CacheError, match="check the token"):
        await CacheClient.connect(url, token="guess")
    message = "holds vectors of 24 numbers, the model's embeddings have 40"
    with pytest.raises(CacheError, match=message):
        await CacheClient.connect(url, token="secret", fit=Fit(40))
    async with connected(url) as client:
        with pytest.raises(QueryError, match=r"shape"):
            await client.enhance(queries[0][:5], PARAMS)
        assert (await client.enhance(queries[0], PARAMS)).vector.shape == (24,)


async def test_a_cache_of_another_encoder(
    features: Array, tmp_path: Path, launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client rejects a cache from another encoder, even if the service opens this cache only
    later.
    """
    theirs, ours = (Fit(24, {"sha256": key * 64}) for key in "to")
    process = launch(build(features[:50], tmp_path / "e", encoder=theirs.encoder))
    message = "built with another encoder: sha256 is 't+', the model's is 'o+'"
    with pytest.raises(CacheError, match=message):
        await CacheClient.connect(process.url, token="secret", fit=ours)
    cache = RemoteCache([process.url], ours, token="secret")
    with pytest.raises(CacheError, match="built with another encoder"):
        await cache.check()
    await cache.aclose()
    async with connected(process.url, fit=theirs) as client:
        await client.enhance(features[0], PARAMS)
        process.end()
        swap = {"encoder": ours.encoder, "overwrite": True, "progress": False}
        build_from_features(tmp_path / "e" / "f.npy", process.folder, **swap)  # type: ignore[arg-type]
        launch(process.folder, process.port)
        for ask in (client.check(), client.enhance(features[0], PARAMS)):
            with pytest.raises(CacheError, match="built with another encoder"):
                await ask
    assert "does not say" not in caplog.text
    async with connected(process.url, fit=ours) as client:
        await client.check()


async def test_every_golden_through_a_service_and_through_two_shards(
    tmp_path: Path, launch: Launch, released: Callable[[str], CacheIndex]
) -> None:
    for number, name in enumerate(INDEXES):
        index = released(name)
        rows = index.gather(np.arange(len(index)))
        wholes = [launch(index.folder).url]
        shards = []
        for side, part in enumerate((rows[:70], rows[70:])):
            folder = tmp_path / f"{number}{side}"
            folder.mkdir()
            np.save(folder / "f.npy", part)
            build_from_features(
                folder / "f.npy", folder / "c", kind="Flat", normalized=False, progress=False
            )
            shards.append(launch(folder / "c").url)
        # The results equal those recorded with the exact index knn.index, because the shards search
        # exactly.
        for urls, golden in ((wholes, name), (shards, "knn.index")):
            cache = RemoteCache(urls, Fit(40), token="secret")
            await cache.check()
            for key in GOLDENS:
                combo, of, params = split(key)
                if of == golden:
                    row = await cache.enhance(VISUAL[f"{combo}/mixed"][0], params)
                    np.testing.assert_allclose(row.vector, VISUAL[key][0], rtol=0, atol=BOUND)
            await cache.aclose()


async def test_who_comes_up_late_is_found(
    features: Array, queries: Array, tmp_path: Path, launch: Launch
) -> None:
    folder, port = build(features[:50], tmp_path / "l"), free_port()
    cache = RemoteCache([f"http://127.0.0.1:{port}"], Fit(24), token="secret")
    message = r"http://127\.0\.0\.1:\d+: no retrieval service answers there"
    with pytest.raises(CacheUnavailable, match=message):
        await cache.check()
    with pytest.raises(CacheUnavailable, match="has not answered yet"):
        await cache.enhance(queries[0], PARAMS)
    assert (cache.manifests, cache.dimension, cache.defaults) == ((), 24, CacheParams())
    launch(folder, port)
    await cache.check()
    assert len((await cache.enhance(queries[0], PARAMS)).ids) == 9
    assert cache.manifests[0].count == 50
    await cache.aclose()


async def test_killed_under_load_it_recovers_by_itself(
    features: Array, queries: Array, tmp_path: Path, launch: Launch
) -> None:
    """If the service gets SIGKILL, each request returns a result or raises CacheUnavailable."""
    process = launch(build(features, tmp_path / "k"))
    outcomes: list[str] = []
    stop = asyncio.Event()

    async def load(client: CacheClient) -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(20):  # The test sets the client's timeout to 1.5 s.
                    await client.enhance(queries[0], PARAMS)
                outcomes.append("answered")
            except CacheUnavailable:
                outcomes.append("unavailable")
            await asyncio.sleep(0)

    async with connected(process.url, timeout=1.5) as client:
        tasks = [asyncio.create_task(load(client)) for _ in range(8)]
        await until(lambda: len(outcomes) > 20)
        process.end()
        await until(lambda: outcomes[-8:] == ["unavailable"] * 8)
        again = await asyncio.to_thread(launch, process.folder, process.port)
        await until(lambda: outcomes[-40:] == ["answered"] * 40)
        stop.set()
        await asyncio.gather(*tasks)
    assert again.end(signal.SIGTERM) == 0
    assert set(outcomes) == {"answered", "unavailable"}


async def test_sigterm_answers_what_is_under_way(
    features: Array, queries: Array, tmp_path: Path, launch: Launch
) -> None:
    process = launch(build(features, tmp_path / "d"))
    async with connected(process.url) as client:
        await client.enhance(queries[0], PARAMS)
        under_way = [
            asyncio.create_task(client.enhance(queries[i % 6], PARAMS)) for i in range(200)
        ]
        await asyncio.sleep(0.05)
        process.child.send_signal(signal.SIGTERM)
        results = await asyncio.gather(*under_way, return_exceptions=True)
        assert await asyncio.to_thread(process.child.wait, 30) == 0
    failed = [r for r in results if isinstance(r, BaseException)]
    # Only the requests that were sent after SIGTERM fail.
    assert all(isinstance(r, CacheUnavailable) for r in failed)
    assert len(failed) < len(results)
