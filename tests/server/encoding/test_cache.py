import asyncio

import numpy as np
import pytest

from model_ext.conditioning import Vector
from server.encoding.cache import ResultCache
from server.media.embedded import Embedded


class Work:
    """A computation that counts its runs, waits until `go` is set, and records a cancellation."""

    def __init__(self, value: float = 1, size: int = 1, error: Exception | None = None) -> None:
        self.calls = 0
        self.cancelled = False
        self.go = asyncio.Event()
        self._result = np.full(size, value, np.float32)
        self._error = error

    async def __call__(self) -> Vector:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error:
            raise self._error
        return self._result

    def at_once(self) -> "Work":
        self.go.set()
        return self


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_second_time_it_is_known() -> None:
    cache, work = ResultCache(1000), Work().at_once()
    first = await cache.get("a", work)
    assert await cache.get("a", work) is first
    assert work.calls == 1


def test_a_result_cannot_be_changed() -> None:
    result = Embedded("image", np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        result.numbers[0] = 2


def test_the_size_of_a_result_includes_its_notes() -> None:
    numbers = np.zeros(2, np.float32)
    assert Embedded("audio", numbers).nbytes == 8
    assert Embedded("audio", numbers, {"codec": "x" * 100, "damaged_packets": 3}).nbytes > 108


async def test_equal_content_in_flight_is_computed_once() -> None:
    cache, work = ResultCache(1000), Work()
    waiting = [asyncio.ensure_future(cache.get("a", work)) for _ in range(100)]
    await settle()
    work.go.set()
    assert {id(result) for result in await asyncio.gather(*waiting)} == {id(waiting[0].result())}
    assert work.calls == 1


async def test_the_first_may_leave_the_others_get_their_answer() -> None:
    cache, work = ResultCache(1000), Work()
    first, second = (asyncio.ensure_future(cache.get("a", work)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert (await second)[0] == 1
    assert not work.cancelled


async def test_when_all_left_the_work_stops_and_may_be_asked_for_again() -> None:
    cache, work = ResultCache(1000), Work()
    waiting = [asyncio.ensure_future(cache.get("a", work)) for _ in range(2)]
    await settle()
    for task in waiting:
        task.cancel()
    await settle()
    assert work.cancelled
    assert (await cache.get("a", Work(value=2).at_once()))[0] == 2


async def test_a_failure_reaches_all_and_is_not_kept() -> None:
    cache, work = ResultCache(1000), Work(error=ValueError("bad"))
    waiting = [asyncio.ensure_future(cache.get("a", work)) for _ in range(3)]
    await settle()
    work.go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["bad"] * 3
    assert (await cache.get("a", Work().at_once()))[0] == 1


async def test_the_bytes_are_bounded_and_the_least_recently_used_go() -> None:
    cache = ResultCache(3 * 40)
    for key in "abc":
        await cache.get(key, Work(size=10).at_once())
    await cache.get("a", Work())  # After this use of "a", "b" is the least recently used entry.
    await cache.get("d", Work(size=10).at_once())
    assert (len(cache), cache.bytes) == (3, 120)
    again = Work().at_once()
    await cache.get("a", again)
    assert again.calls == 0
    await cache.get("b", again)
    assert again.calls == 1


async def test_what_is_larger_than_the_bound_is_not_kept() -> None:
    cache = ResultCache(10)
    await cache.get("a", Work(size=10).at_once())
    assert (len(cache), cache.bytes) == (0, 0)
