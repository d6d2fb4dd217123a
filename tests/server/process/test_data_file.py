"""Files in memory that carry data between processes."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_ext.side import SideData
from server.encoding.messages import Answer, Packet
from server.encoding.view import unpack_view
from server.process import data_file
from tests.server.waiting import until


@pytest.mark.parametrize("of_view", [False, True])
async def test_a_file_is_closed_if_the_caller_is_cancelled_before_the_read(of_view: bool) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    busy = threading.Event()
    other = asyncio.ensure_future(asyncio.to_thread(busy.wait, 10))
    descriptor = data_file.write(SideData({}))
    answer = Packet(Answer(False, {}, modality="image"))
    work = unpack_view(answer, descriptor) if of_view else data_file.loaded(descriptor)
    reading = asyncio.ensure_future(work)
    await asyncio.sleep(0.01)  # the read cannot start while the executor's only thread is busy
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    busy.set()
    await other
    await until(lambda: not Path(f"/proc/self/fd/{descriptor}").exists(), 5)
