"""vLLM's schedulers, but with threads of low priority to compile grammars.

vLLM compiles the grammars of structured outputs in threads of the engine's process, where a large
grammar would take CPU time from the model. The classes differ from vLLM's only in the executor of
these threads.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

NICE = 19
# several threads, so that small grammars do not wait for large ones
THREADS = 4


class ConditionedScheduler(Scheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lower_priority_of(self.structured_output_manager)


class ConditionedAsyncScheduler(AsyncScheduler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lower_priority_of(self.structured_output_manager)


def lower_priority_of(manager: Any) -> None:
    """Replace the executor that compiles grammars. xgrammar's threads inherit its priority."""
    executor = getattr(manager, "executor", None)  # vLLM without a tokenizer has none
    if executor is not None:
        executor.shutdown(wait=False)
        manager.executor = ThreadPoolExecutor(max_workers=THREADS, initializer=lower_priority)


def lower_priority() -> None:
    """Lower the priority of the current thread. On Linux, each thread has its own priority."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
