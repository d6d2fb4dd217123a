"""The owner's thread searches for many callers. Batching does not change their results, no request
waits for a full batch, and a full queue rejects requests at once.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheBusy, CacheClosed, CacheError, QueryError
from cache_index.index import CacheIndex, Enhanced
from cache_index.owner import EnhancedRow, IndexOwner
from cache_index.searcher import Searcher
from tests.cache_index.conftest import DIMENSION
from tests.rounding import between

BOUND = between([DIMENSION, 12, DIMENSION, DIMENSION])  # the largest allowed rounding error


class Gated:
    """An index whose searches wait for `gate`. It records batch sizes and the calling threads."""

    def __init__(self, index: CacheIndex) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.dimension = index.dimension
        self._index = index

    def enhance(self, queries: Array, params: Sequence[CacheParams]) -> Enhanced:
        self.batches.append(len(queries))
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(20)
        return self._index.enhance(queries, params)


@pytest.fixture
def gated(index: CacheIndex) -> Gated:
    return Gated(index)


@pytest.fixture
def owner(gated: Gated) -> Iterator[IndexOwner]:
    owner = IndexOwner(gated, max_batch=4, max_waiting=6)  # type: ignore[arg-type]
    yield owner
    gated.gate.set()
    owner.close()


async def test_many_concurrent_callers_get_their_own_answer(
    index: CacheIndex, queries: Array
) -> None:
    owner = IndexOwner(index, max_batch=8)
    jobs = [
        (queries[i % 6], CacheParams(top_k=1 + i % 12, weight=(i % 5) / 4, inverse_temperature=i))
        for i in range(200)
    ]
    rows = await asyncio.gather(*(owner.enhance(query, params) for query, params in jobs))
    owner.close()
    for (query, params), row in zip(jobs, rows, strict=True):
        alone = index.enhance(query[None], [params])
        np.testing.assert_allclose(row.vector, alone.vectors[0], atol=BOUND)
        assert np.array_equal(row.ids, alone.neighbors.ids[0])
        np.testing.assert_allclose(row.similarity, alone.neighbors.similarity[0], atol=BOUND)


def test_who_waits_shares_a_batch_and_nobody_waits_for_one(
    owner: IndexOwner, gated: Gated, queries: Array
) -> None:
    futures = [owner.submit(queries[0], CacheParams())]
    gated.entered.acquire()  # the owner searches the first request in a separate batch
    futures += [owner.submit(queries[i], CacheParams()) for i in range(6)]
    gated.gate.set()
    for future in futures:
        assert future.result(20).vector.shape == queries[0].shape
    assert gated.batches == [1, 4, 2]
    assert len(gated.threads) == 1
    assert threading.get_ident() not in gated.threads


def test_a_full_queue_refuses_at_once(owner: IndexOwner, gated: Gated, queries: Array) -> None:
    futures = [owner.submit(queries[0], CacheParams())]
    gated.entered.acquire()
    futures += [owner.submit(queries[0], CacheParams()) for _ in range(6)]
    with pytest.raises(CacheBusy, match="6 requests already wait"):
        owner.submit(queries[0], CacheParams())
    gated.gate.set()
    assert all(future.result(20) for future in futures)
    assert owner.submit(queries[0], CacheParams()).result(20)


async def test_a_cancelled_caller_is_dropped(
    owner: IndexOwner, gated: Gated, queries: Array
) -> None:
    first = asyncio.create_task(owner.enhance(queries[0], CacheParams()))
    await asyncio.to_thread(gated.entered.acquire)
    waiting = [asyncio.create_task(owner.enhance(queries[i], CacheParams())) for i in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    gated.gate.set()
    await asyncio.gather(first, waiting[0], waiting[2])
    assert gated.batches == [1, 2]
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]


async def test_a_caller_cancelled_while_searching_harms_nobody(
    owner: IndexOwner, gated: Gated, queries: Array
) -> None:
    task = asyncio.create_task(owner.enhance(queries[0], CacheParams()))
    await asyncio.to_thread(gated.entered.acquire)
    task.cancel()
    gated.gate.set()
    assert isinstance(await owner.enhance(queries[1], CacheParams()), EnhancedRow)


@pytest.mark.parametrize("wrong", [np.ones(3, np.float32), np.full(24, np.nan, np.float32)])
async def test_a_bad_query_fails_alone(owner: IndexOwner, gated: Gated, wrong: Array) -> None:
    gated.gate.set()
    good = owner.submit(np.ones(24, np.float32), CacheParams())
    with pytest.raises(QueryError):
        await owner.enhance(wrong, CacheParams())
    assert good.result(20)


def test_a_failing_batch_does_not_end_the_thread(
    index: CacheIndex, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = IndexOwner(index)
    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "search", lambda *_: 1 / 0)
        with pytest.raises(CacheError, match="ZeroDivisionError"):
            owner.submit(queries[0], CacheParams()).result(20)
    assert owner.submit(queries[0], CacheParams()).result(20)
    owner.close()


def test_close_answers_who_waits_and_refuses_who_comes(
    owner: IndexOwner, gated: Gated, queries: Array
) -> None:
    futures: list[Future[EnhancedRow]] = [owner.submit(queries[0], CacheParams())]
    gated.entered.acquire()
    futures += [owner.submit(queries[i], CacheParams()) for i in range(6)]
    gated.gate.set()
    owner.close()
    assert all(future.done() and future.result() for future in futures)
    with pytest.raises(CacheClosed):
        owner.submit(queries[0], CacheParams())
    owner.close()  # a second call does nothing


def test_a_large_top_k_is_searched_apart(owner: IndexOwner, gated: Gated, queries: Array) -> None:
    first = owner.submit(queries[0], CacheParams())
    gated.entered.acquire()
    sizes = (1024, 10, 10, 10)  # too many rows for one search: it would read 4 x 1024
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache_index.owner.GATHERED_ROWS", 2000)
        futures = [owner.submit(queries[0], CacheParams(top_k=k)) for k in sizes]
        gated.gate.set()
        counts = [len(future.result(20).ids) for future in futures]
    assert first.result(20)
    assert counts == [400, 10, 10, 10]
    assert gated.batches == [1, 3, 1]


def test_explain_brings_the_captions(index: CacheIndex, queries: Array) -> None:
    owner = IndexOwner(index)
    row = owner.submit(queries[0], CacheParams(top_k=3), explain=True).result(20)
    assert [c.id for c in row.captions] == [f"id-{i}" for i in row.ids]
    assert owner.submit(queries[0], CacheParams(top_k=3)).result(20).captions == ()
    owner.close()


def test_swap_loses_no_request(index: CacheIndex, features: Array, tmp_path: Path) -> None:
    """Requests get valid answers while the test swaps two different caches repeatedly."""
    np.save(tmp_path / "other.npy", features[:200])
    build_from_features(tmp_path / "other.npy", tmp_path / "other", progress=False)
    other = CacheIndex.open(tmp_path / "other")
    owner = IndexOwner(index, max_batch=4)
    query, params = features[300], CacheParams(top_k=1, weight=1)
    futures = []
    for i in range(300):
        futures.append(owner.submit(query, params))
        owner.swap(other if i % 2 else index)
        if i % 50 == 0:
            futures[-1].result(20)
    owner.close()
    similarities = {round(float(future.result().similarity[0]), 4) for future in futures}
    best = [float((rows @ query).max()) for rows in (features, features[:200])]
    assert similarities == {round(value, 4) for value in best}


def test_swap_refuses_another_width(index: CacheIndex, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((4, 7), np.float32))
    build_from_features(tmp_path / "f.npy", tmp_path / "c", progress=False)
    owner = IndexOwner(index)
    with pytest.raises(CacheError, match="holds vectors of 7 numbers, the cache in use 24"):
        owner.swap(CacheIndex.open(tmp_path / "c"))
    owner.close()


def test_the_observer_hears_of_every_batch(index: CacheIndex, queries: Array) -> None:
    heard: list[tuple[int, float]] = []
    owner = IndexOwner(index, observe=lambda size, seconds: heard.append((size, seconds)))
    futures = [owner.submit(queries[0], CacheParams()) for _ in range(20)]
    assert all(future.result(20) for future in futures)
    owner.close()
    assert sum(size for size, _ in heard) == 20
    assert all(0 < seconds < 20 for _, seconds in heard)


async def test_who_was_just_answered_is_waited_for_a_moment(
    gated: Gated, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the owner did not batch the next requests of clients that it had just answered,
    but searched the first of these requests alone.
    """
    monkeypatch.setattr("cache_index.owner.PAUSE", 0.9)
    original = gated.enhance

    def slow(queries: Array, params: Sequence[CacheParams]) -> Enhanced:
        time.sleep(0.1)
        return original(queries, params)

    monkeypatch.setattr(gated, "enhance", slow)
    gated.gate.set()
    owner = IndexOwner(gated)  # type: ignore[arg-type]

    async def client(delay: float) -> None:
        for _ in range(4):
            await owner.enhance(queries[0], CacheParams())
            await asyncio.sleep(delay)

    await asyncio.gather(*(client(0.005 * i) for i in range(4)))
    owner.close()
    assert sum(gated.batches) == 16
    assert gated.batches.count(4) >= 3
