"""Concurrent coroutines: results are in order, and only the first error is raised."""

import asyncio

import pytest

from server.conditioning.first_error import all_results


async def after(rounds: int) -> int:
    for _ in range(rounds):
        await asyncio.sleep(0)
    return rounds


async def fail() -> int:
    raise ValueError("first")


async def test_results_have_the_order_of_the_work() -> None:
    assert await all_results(after(rounds) for rounds in (3, 0, 2)) == [3, 0, 2]
    assert await all_results([]) == []


async def test_the_first_error_cancels_the_other_work() -> None:
    cancelled = False

    async def endless() -> int:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise
        return 0

    with pytest.raises(ValueError, match="first"):
        await all_results([endless(), fail()])
    assert cancelled
