"""The interface of a side model: a model beside the language model, in a separate process.

Speech recognition and text recognition are side models. To add one:

1. Write a class with the attributes and methods of `SideModel` in `model_ext/`, and a function
   `load(**options)` that returns it. Only the side model's process imports this module, so the
   module may import its libraries at the top. `run` gets tasks of one kind and returns one
   `SideData` per task. Between two steps it calls `stop_if_cancelled(tasks)`.
2. Register `load` in `server/side/catalog.py`, with the settings that enable it.
3. Call it: `await state.components.sides[NAME].ask(SideData(document, arrays))`, or `cached` for
   results that depend only on a file's content. Both raise `Unavailable` when the queue is full or
   the process is down.

The server then starts and restarts the process, limits its queue, forms batches, cancels tasks
whose clients have disconnected, and reports it in /ready and in the metrics. Requests and results
are `SideData`: a JSON object and named arrays. No process reads pickles.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

Json = dict[str, Any]
Array = NDArray[Any]


class TaskError(Exception):
    """A side model raises this for a task that it cannot do. The client gets the message with
    status 400.
    """


class Cancelled(Exception):
    """`stop_if_cancelled` raises this between two steps when all clients of the batch have
    disconnected.
    """


@dataclass(frozen=True, slots=True)
class SideData:
    """A request to a side model, or its result."""

    document: Json
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return len(str(self.document)) + sum(each.nbytes for each in self.arrays.values())


def ignore(part: Json) -> None:
    del part


@dataclass(slots=True, eq=False)
class Task:
    """One request that the side model works on."""

    data: SideData
    # Sends a part of the result, of at most 64 KiB of JSON, to the client before the result.
    emit: Callable[[Json], None] = ignore
    cancelled: bool = False  # Whether the client has disconnected.
    progress: float = field(default_factory=time.monotonic)  # Time at which the last step ended.


class SideModel(Protocol):
    device: str
    max_batch: int  # Maximum number of tasks in one batch.
    gpu_bytes: int  # Maximum GPU memory of the model and its batches; 0 on a CPU.

    def kind(self, document: Json) -> Hashable:
        """Return the kind of a task. Tasks of equal kinds can share a batch. Raises TaskError for a
        bad document.
        """
        ...

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        """Run all tasks of a batch. If this raises an exception, each task is run again alone.

        Raises TaskError, Cancelled.
        """
        ...


def stop_if_cancelled(tasks: Sequence[Task]) -> None:
    """Record that a step has ended. Raises Cancelled: when the clients of all tasks have
    disconnected.
    """
    for task in tasks:
        task.progress = time.monotonic()
    if all(task.cancelled for task in tasks):
        raise Cancelled
