"""The queue of a side model: one thread forms batches of one kind and runs them.

The next batch contains the first task and the other tasks of its kind, up to the model's maximum.
Clients take turns. This module does not depend on sockets.
"""

import logging
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from model_ext.side import Cancelled, SideData, SideModel, Task, TaskError
from server.errors import BadRequest, InternalError, RequestError, Unavailable
from server.fairness.order import FairOrder
from server.fairness.share import FairShare

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Queued:
    """A task that waits or runs."""

    task: Task
    kind: Hashable
    client: str
    number: float = 0  # orders the tasks of all clients (FairOrder)
    future: Future[SideData] = field(default_factory=Future)


class WorkQueue:
    def __init__(self, name: str, model: SideModel, max_waiting: int) -> None:
        # called with the number of tasks of each batch
        self.on_batch: Callable[[int], None] | None = None
        self._name = name
        self._model = model
        self._waiting: deque[Queued] = deque()  # ordered by `number`
        self._running: Sequence[Queued] = ()
        self._started = 0.0  # when the running batch began
        self._shares, self._order = FairShare(max_waiting), FairOrder()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"side-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """The number of waiting tasks."""
        return len(self._waiting)

    def stalled_s(self) -> float:
        """The seconds since the running batch ended a step, or 0 if no batch runs."""
        running = self._running
        last = max((each.task.progress for each in running), default=0.0)
        return time.monotonic() - max(last, self._started) if running else 0

    def submit(self, task: Task, client: str = "") -> Future[SideData]:
        """Add a task. Raises Unavailable: when the queue is full. BadRequest: for a bad task.

        To cancel the task, set `task.cancelled` and cancel the future.
        """
        try:
            queued = Queued(task, self._model.kind(task.data.document), client)
        except TaskError as error:
            raise BadRequest(str(error)) from None
        with self._changed:
            if self._closed or not self._shares.take(client):
                message = f"too many requests are waiting for the side model {self._name}"
                raise Unavailable(message, code="side_queue_full")
            queued.number = self._order.number(client)
            insort(self._waiting, queued, key=lambda each: each.number)
            self._changed.notify()
        queued.future.add_done_callback(self._remove_cancelled)
        return queued.future

    def _remove_cancelled(self, future: Future[SideData]) -> None:
        """Remove the task of a future that was cancelled while the task waited."""
        if not future.cancelled():
            return
        with self._changed:
            for each in self._waiting:
                if each.future is future:
                    self._waiting.remove(each)
                    self._shares.give_back(each.client)
                    if not self._waiting:
                        self._order.start(each.number, last=True)
                    return

    def close(self) -> None:
        """Cancel all tasks, and end the thread after the running step."""
        with self._changed:
            self._closed = True
            for each in (*self._waiting, *self._running):
                each.task.cancelled = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                batch = self._take()
            live = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if live:
                self._run(live)

    def _take(self) -> list[Queued]:
        first = self._waiting[0]
        same = [each for each in self._waiting if each.kind == first.kind]
        batch = same[: self._model.max_batch]
        for each in batch:
            self._waiting.remove(each)
            self._shares.give_back(each.client)
            self._order.start(each.number, last=not self._waiting)
        return batch

    def _run(self, batch: Sequence[Queued]) -> None:
        if self.on_batch is not None:
            self.on_batch(len(batch))
        self._started, self._running = time.monotonic(), batch
        try:
            results = self._model.run([each.task for each in batch])
            for each, result in list(zip(batch, results, strict=True)):
                each.future.set_result(result)
        except Exception as error:  # the thread must survive errors of the model
            stopped = isinstance(error, Cancelled) and all(each.task.cancelled for each in batch)
            if len(batch) == 1 or stopped:
                for each in batch:
                    each.future.set_exception(self._response(error))
            else:  # run each task alone, so that only the faulty or cancelled task fails
                for each in batch:
                    self._run([each])
        finally:
            self._running = ()

    def _response(self, error: Exception) -> RequestError:
        match error:
            case TaskError():
                return BadRequest(str(error))
            case Cancelled():
                return Unavailable(f"the side model {self._name} is shutting down")
            case MemoryError():
                return Unavailable(f"not enough memory for the side model {self._name}")
        logger.error("the side model %s failed", self._name, exc_info=error)
        return InternalError(f"the side model {self._name} failed")
