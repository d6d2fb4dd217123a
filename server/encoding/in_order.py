"""Run tasks concurrently, and yield the results in the order of the tasks' inputs."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


async def in_order(
    inputs: AsyncGenerator[Input, None],
    work: Callable[[Input], Awaitable[Output]],
    concurrent: int,
) -> AsyncGenerator[tuple[Input, Output], None]:
    """Yield (input, result of `work`) for each input, in order.

    At most `concurrent` inputs are in work. The first error cancels the work on the other inputs.
    """
    running: deque[tuple[Input, asyncio.Future[Output]]] = deque()
    try:
        async with aclosing(inputs):
            async for each in inputs:
                running.append((each, asyncio.ensure_future(work(each))))
                if len(running) >= concurrent:
                    yield running[0][0], await running[0][1]
                    running.popleft()
        while running:
            yield running[0][0], await running[0][1]
            running.popleft()
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)
