"""Cancel a route's work when its client disconnects.

vLLM has such a function, but a server without a language model does not import vLLM.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

Result = TypeVar("Result")

CLIENT_DISCONNECTED = 499  # a status that appears only in logs


async def unless_disconnected(work: Awaitable[Result], request: Request) -> Result | None:
    """Return the result of `work`, or None when the client disconnects before `work` ends.

    The request's body must have been read completely: this function reads the ASGI messages that
    follow the body.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.wait({task, watch})
        # Without this line, a reference cycle keeps the request's files open: the error references
        # the task, whose stack frame references the files.
        del task, work


async def respond_unless_disconnected(
    work: Coroutine[Any, Any, Response], request: Request
) -> Response:
    """Return the response of `work`, or an empty response when the client disconnects first.

    `work` is not a task: the frame of this function would keep the task's error in a reference
    cycle.
    """
    return await unless_disconnected(work, request) or Response(status_code=CLIENT_DISCONNECTED)


async def disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
