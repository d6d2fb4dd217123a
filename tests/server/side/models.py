"""Small side models for tests, and a program that serves one of them under the supervisor."""

import sys
import time
from collections.abc import Hashable, Sequence

import numpy as np

from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled
from server.side import catalog, service


class Doubler:
    """A side model that doubles each task's array `x`. A task's document can make it fail."""

    device = "cpu"
    gpu_bytes = 0
    max_batch = 4

    def __init__(self) -> None:
        self.batches: list[list[int]] = []  # the numbers of the tasks in each batch
        self.steps = 0

    def kind(self, document: Json) -> Hashable:
        if "kind" not in document:
            raise TaskError("the task has no kind")
        return str(document["kind"])

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        documents = [task.data.document for task in tasks]
        self.batches.append([document.get("number", 0) for document in documents])
        for _ in range(documents[0].get("steps", 0)):
            stop_if_cancelled(tasks)
            self.steps += 1
            time.sleep(0.005)
        if any(document.get("fails") for document in documents):
            raise RuntimeError("a defect")
        if any(document.get("bad") for document in documents):
            raise TaskError("the picture is bad")
        for part in documents[0].get("parts", ()):
            tasks[0].emit({"part": part})
        return [SideData(t.data.document, {"y": np.asarray(t.data.arrays["x"]) * 2}) for t in tasks]


DOUBLER = catalog.Side("doubler", "tests.server.side.models:Doubler", lambda _settings: {})


def main() -> None:
    catalog.SIDES = (DOUBLER,)
    sys.argv.append(DOUBLER.name)
    service.main()


if __name__ == "__main__":
    main()
