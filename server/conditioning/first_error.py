"""Run coroutines concurrently, and raise only the first error."""

import asyncio
import traceback
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_results(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return the results in order. The first error cancels the other coroutines.

    The raised error does not reference the tasks. The tasks reference the error, so this would be a
    cycle, which would keep the files of a request open until a garbage collection.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        del group, tasks, work
        raise failures.exceptions[0] from None
    except asyncio.CancelledError as cancelled:
        # Remove the traceback, because its frames also reference the tasks and the files.
        traceback.clear_frames(cancelled.__traceback__)
        del group, tasks, work
        raise
    return [task.result() for task in tasks]
