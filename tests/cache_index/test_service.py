"""The retrieval service gives the same answers as its index, and rejects all invalid requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheError
from cache_index.index import CacheIndex
from cache_index.loopback import is_loopback
from cache_index.metrics import CacheMetrics
from cache_index.owner import IndexOwner
from cache_index.searcher import Searcher
from cache_index.service import create_app, serve
from cache_index.wire import NEIGHBORS, EnhanceRequest, pack_query, unpack_row

TOKEN = "secret"


@pytest.fixture
async def client(index: CacheIndex) -> AsyncIterator[httpx.AsyncClient]:
    metrics = CacheMetrics()
    owner = IndexOwner(index, max_waiting=4, observe=metrics.batch)
    app = create_app(owner, metrics, token=TOKEN)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://cache",
            headers={"authorization": f"Bearer {TOKEN}"},
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("explain", [False, True])
async def test_the_same_as_in_process(
    client: httpx.AsyncClient, index: CacheIndex, queries: Array, explain: bool
) -> None:
    asked = EnhanceRequest(CacheParams(top_k=7, weight=0.3), explain=explain, prototypes=explain)
    for query in queries:
        response = await client.post("/v1/enhance", params=asked.pack(), content=pack_query(query))
        assert response.status_code == 200
        row = unpack_row(response.content, int(response.headers[NEIGHBORS]), 24, asked)
        direct = index.enhance(query[None], [asked.params])
        assert np.array_equal(row.vector, direct.vectors[0])
        assert np.array_equal(row.ids, direct.neighbors.ids[0])
        if explain:
            assert [c.id for c in row.captions] == [f"id-{i}" for i in row.ids]
            assert np.array_equal(row.prototypes, direct.neighbors.vectors[0])


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"content": b"\0" * 92}, 400, "24 little-endian float32"),
        ({"content": b""}, 400, "got 0 bytes"),
        ({"content": b"\0" * 97}, 413, "must have 96 bytes"),
        ({"content": b"\0" * 10_000_000}, 413, "must have 96 bytes"),
        ({"content": np.full(24, np.nan, "<f4").tobytes()}, 400, "NaN"),
        ({"params": {"top_k": "0"}}, 400, "top_k"),
        ({"params": {"nprobe": "9"}}, 400, "nprobe"),
        ({"headers": {"authorization": "Bearer wrong"}}, 401, "token"),
        ({"headers": {"authorization": ""}}, 401, "token"),
        ({"method": "GET"}, 405, "Method"),
        ({"url": "/v1/nothing"}, 404, "Not Found"),
    ],
)
async def test_wrong_requests(
    client: httpx.AsyncClient, queries: Array, change: dict[str, object], status: int, told: str
) -> None:
    right = {"method": "POST", "url": "/v1/enhance", "content": pack_query(queries[0])}
    response = await client.request(**(right | change))  # type: ignore[arg-type]
    assert response.status_code == status
    assert told in response.json()["error"]["message"]
    assert (await client.request(**right)).status_code == 200  # type: ignore[arg-type]


async def test_every_path_but_health_needs_the_token(client: httpx.AsyncClient) -> None:
    client.headers.pop("authorization")
    for path in ("/v1/info", "/v1/reload", "/metrics", "/v1/enhance", "/", "/nothing"):
        assert (await client.post(path)).status_code == 401
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).json() == {"status": "ready"}


async def test_overload_is_refused_at_once(
    client: httpx.AsyncClient, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Searcher.search

    def slow(*args: object) -> object:
        import time

        time.sleep(0.2)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Searcher, "search", slow)
    body = pack_query(queries[0])
    responses = await asyncio.gather(*(client.post("/v1/enhance", content=body) for _ in range(30)))
    refused = [r for r in responses if r.status_code == 503]
    assert len(refused) >= 20
    assert {r.status_code for r in responses} == {200, 503}
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["code"] == "cache_queue_full"
    assert (await client.post("/v1/enhance", content=body)).status_code == 200


async def test_a_failed_search_is_500_and_the_service_lives(
    client: httpx.AsyncClient, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = pack_query(queries[0])
    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "search", lambda *_: 1 / 0)
        response = await client.post("/v1/enhance", content=body)
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "cache_failed"
        assert (await client.get("/ready")).status_code == 503
    assert (await client.post("/v1/enhance", content=body)).status_code == 200
    assert (await client.get("/ready")).status_code == 200


async def test_metrics_count(client: httpx.AsyncClient, queries: Array) -> None:
    for _ in range(3):
        await client.post("/v1/enhance", content=pack_query(queries[0]))
    await client.post("/v1/enhance", content=b"")
    text = (await client.get("/metrics")).text
    assert 'bindserve_cache_answers_total{status="200"} 3.0' in text
    assert 'bindserve_cache_answers_total{status="400"} 1.0' in text
    assert "bindserve_cache_batch_size_count 3.0" in text
    assert "bindserve_cache_vectors 400.0" in text
    assert "bindserve_cache_waiting 0.0" in text


async def test_reload_goes_over_to_what_is_in_the_folder_now(
    client: httpx.AsyncClient, index: CacheIndex, features: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "f.npy", features[:100])
    before = await client.get("/v1/info")
    build_from_features(
        tmp_path / "f.npy",
        index.folder,
        encoder=index.manifest.encoder,
        overwrite=True,
        progress=False,
    )
    asked = EnhanceRequest(CacheParams(top_k=1))
    ask = {"params": asked.pack(), "content": pack_query(features[300])}
    old = await client.post("/v1/enhance", **ask)  # type: ignore[arg-type]
    assert (await client.post("/v1/reload")).json() == {"vectors": 100}
    new = await client.post("/v1/enhance", **ask)  # type: ignore[arg-type]
    assert unpack_row(old.content, 1, 24, asked).ids.tolist() == [300]
    assert unpack_row(new.content, 1, 24, asked).ids[0] < 100
    after = await client.get("/v1/info")
    assert after.json()["count"] == 100
    assert before.headers["x-bindserve-cache"] != after.headers["x-bindserve-cache"]


@pytest.mark.parametrize("damage", ["another encoder", "truncated"])
async def test_a_reload_that_fails_changes_nothing(
    client: httpx.AsyncClient, index: CacheIndex, sources: Path, queries: Array, damage: str
) -> None:
    if damage == "truncated":
        # the service still reads the file that it has opened, although the file was renamed
        (index.folder / "vectors.npy").rename(index.folder / "away")
        (index.folder / "vectors.npy").write_bytes(b"\x93NUMPY")
    else:
        build_from_features(
            sources / "features.npy",
            index.folder,
            encoder={"sha256": "other", "name": "tiny"},
            overwrite=True,
            progress=False,
        )
    response = await client.post("/v1/reload")
    assert response.status_code == 500
    assert ("vectors.npy" if damage == "truncated" else "encoder") in response.text
    answer = await client.post("/v1/enhance", content=pack_query(queries[0]))
    assert answer.status_code == 200


def test_no_token_beyond_this_machine(folder: Path) -> None:
    with pytest.raises(CacheError, match="give a token file"):
        serve(folder, host="0.0.0.0")
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "::", "cache")] == [
        True, True, True, False, False,
    ]  # fmt: skip
