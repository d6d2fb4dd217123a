"""vLLM's schedulers, with two differences.

vLLM compiles the grammars of structured outputs in threads of the engine's process, where a large
grammar would take CPU time from the model. Here these threads have a low priority.

For Model Runner V2, a step with new requests also has the embeddings of waiting requests
(`upcoming.py`).
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler

from model_ext.engine.upcoming import Upcoming

NICE = 19
# several threads, so that small grammars do not wait for large ones
THREADS = 4


class ConditionedScheduler(Scheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lower_priority_of(self.structured_output_manager)
        self._upcoming = Upcoming()

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        output: SchedulerOutput = super().schedule(*args, **kwargs)
        if self.use_v2_model_runner:
            self._upcoming.attach(output, self.waiting)
        return output


class ConditionedAsyncScheduler(ConditionedScheduler, AsyncScheduler):
    """The base classes must be in this order, because AsyncScheduler derives from Scheduler."""


def lower_priority_of(manager: Any) -> None:
    """Replace the executor that compiles grammars. xgrammar's threads inherit its priority."""
    executor = getattr(manager, "executor", None)  # vLLM without a tokenizer has none
    if executor is not None:
        executor.shutdown(wait=False)
        manager.executor = ThreadPoolExecutor(max_workers=THREADS, initializer=lower_priority)


def lower_priority() -> None:
    """Lower the priority of the current thread. On Linux, each thread has its own priority."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
