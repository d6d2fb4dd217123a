"""The schedulers compile grammars in threads of low priority."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.core.sched.scheduler import Scheduler

from model_ext.engine.adapter import ASYNC_SCHEDULER, SCHEDULER
from model_ext.engine.scheduler import NICE, lower_priority_of


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_grammars_are_compiled_with_low_priority() -> None:
    own, manager = priority(), SimpleNamespace(executor=ThreadPoolExecutor(1))
    lower_priority_of(manager)
    with manager.executor as executor:
        assert executor.submit(priority).result() == NICE
    assert priority() == own
    lower_priority_of(SimpleNamespace())  # in an engine without a tokenizer, `executor` is missing


@pytest.mark.parametrize("name", [SCHEDULER, ASYNC_SCHEDULER])
def test_the_schedulers_are_vllms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vllms = ThreadPoolExecutor(1)
    manager = SimpleNamespace(executor=vllms)

    def init(self: Scheduler, **options: object) -> None:
        self.structured_output_manager = options["manager"]
        self.num_spec_tokens = 0
        self.parallel_config = SimpleNamespace(pipeline_parallel_size=1)

    monkeypatch.setattr(Scheduler, "__init__", init)
    scheduler = resolve_obj_by_qualname(name)(manager=manager)
    assert scheduler.structured_output_manager is manager
    assert manager.executor is not vllms
    with manager.executor as executor:
        assert executor.submit(priority).result() == NICE
    assert isinstance(scheduler, Scheduler)
