import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.encoding.in_order import in_order


async def numbers(count: int) -> AsyncGenerator[int, None]:
    for number in range(count):
        yield number


async def test_results_have_the_order_of_the_inputs_and_the_work_is_concurrent() -> None:
    active, peak = 0, 0

    async def work(number: int) -> int:
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        for _ in range(10 - number):  # later inputs finish first
            await asyncio.sleep(0)
        active -= 1
        return number * number

    async with aclosing(in_order(numbers(7), work, 3)) as results:
        assert [pair async for pair in results] == [(n, n * n) for n in range(7)]
    assert (peak, active) == (3, 0)


async def test_an_error_cancels_the_other_work() -> None:
    cancelled = []

    async def work(number: int) -> None:
        if number == 0:
            raise ValueError("of the test")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ValueError, match="of the test"):
        await anext(in_order(numbers(3), work, 5))
    assert cancelled == [1, 2]
