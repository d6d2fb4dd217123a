"""Run the batches of all clients. The batches of one client run one after the other.

After a restart, unfinished batches resume. Several API processes may share the folder of batches: a
batch runs in the process that holds its lock.
"""

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.api.batches.record import BatchRecord
from server.api.batches.run import BatchRun, BatchTools
from server.api.batches.store import BatchStore, OwnedBatches
from server.errors import Unavailable
from server.media.files import FileStore

logger = logging.getLogger(__name__)

RESUME_S = 60
FAILED = {
    "code": "server_error",
    "message": "the server could not read or write the batch's files",
    "line": None,
    "param": None,
}


class BatchRunner:
    def __init__(self, tools: BatchTools, store: BatchStore, files: FileStore) -> None:
        self.store = store
        self._tools, self._files = tools, files
        self._waiting: dict[str, deque[tuple[OwnedBatches, BatchRecord]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: set[str] = set()  # ids of the batches that wait or run in this process

    def start(self, batches: OwnedBatches, record: BatchRecord) -> None:
        """Run a batch after the other batches of its owner. Does nothing if it has been started."""
        if record.id in self._started:
            return
        self._started.add(record.id)
        queue = self._waiting.get(batches.owner)
        if queue is not None:
            queue.append((batches, record))
            return
        self._waiting[batches.owner] = deque([(batches, record)])
        self._spawn(batches.owner)

    def _spawn(self, owner: str) -> None:
        # The context is empty, because a batch must not run in the context of a client's request.
        task = asyncio.get_running_loop().create_task(
            self._run_all(owner), context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_all(self, owner: str) -> None:
        queue = self._waiting[owner]
        try:
            while queue:
                batches, record = queue[0]
                await self._run(batches, record)
                self._started.discard(queue.popleft()[1].id)
        finally:
            self._started.difference_update(record.id for _, record in queue)
            del self._waiting[owner]

    async def _run(self, batches: OwnedBatches, record: BatchRecord) -> None:
        """Run one batch, unless another process runs it. An error ends only this batch."""
        with batches.lock(record.id) as held:
            if not held:
                return
            try:
                record = batches.get(record.id)  # another process may have finished the batch
                if not record.final:
                    files = self._files.of(batches.owner)
                    await BatchRun(self._tools, batches, files, record).run()
            except Exception:
                logger.exception("a batch failed")
                await asyncio.to_thread(self._fail, batches, record)

    def _fail(self, batches: OwnedBatches, record: BatchRecord) -> None:
        """Store that a batch failed. If the disk is full, the batch stays unfinished until a
        restart.
        """
        try:
            batches.save(batches.get(record.id).enter("failed", int(time.time()), errors=[FAILED]))
            batches.clean(record.id)
        except Exception:
            logger.exception("the record of a batch cannot be written")

    async def resume(self) -> None:
        """Resume the unfinished batches that no process runs, and delete old batches.

        Raises OSError.
        """
        await asyncio.to_thread(self.store.sweep)
        for batches, record in await asyncio.to_thread(lambda: list(self.store.unfinished())):
            self.start(batches, record)

    async def close(self) -> None:
        """Stop all batches. Their running requests are cancelled."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running(runner: BatchRunner) -> AsyncIterator[None]:
    """Resume the unfinished batches, and stop all batches at the end of the `with` block."""
    await runner.resume()
    sweeper = asyncio.ensure_future(resume_regularly(runner))
    try:
        yield
    finally:
        sweeper.cancel()
        await runner.close()


async def resume_regularly(runner: BatchRunner) -> None:
    """Call `resume` regularly, because another process that shares the folder may have ended."""
    while True:
        await asyncio.sleep(RESUME_S)
        try:
            await runner.resume()
        except (OSError, Unavailable) as error:
            logger.warning("the batches cannot be read: %s", type(error).__name__)
