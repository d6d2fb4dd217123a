"""The runner adapter (the code that passes embeddings to the model) for vLLM's Model Runner V1.

vLLM uses this runner on CPUs, and on GPUs with some methods of speculative decoding.

The runner reorders the requests of its batch and removes preempted requests from it. A request has
a slot (the index of its row) while it is in the batch. A preempted request may get another slot
when it enters again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.logger import init_logger
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from model_ext.conditioning import EXTRA_ARG, unpack
from model_ext.engine.step_clock import StepClock

logger = init_logger(f"vllm.{__name__}")  # vLLM prints only loggers named vllm.*


class ConditionedRunner(GPUModelRunner):
    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        super().__init__(vllm_config, device)
        self._step_clock = StepClock.inherited()
        self._slot_of: dict[str, int] = {}
        self._free_slots = list(range(self.max_num_reqs))
        self._batch_ids: list[str] = []
        self._ordered_ids: list[str] = []
        self._slots = np.array([], dtype=np.int64)  # slots of the requests in _ordered_ids
        logger.info("bindserve conditions requests through %s", type(self).__name__)

    def _update_states(self, scheduler_output: SchedulerOutput) -> Callable[..., Any] | None:
        self._step_clock.record()
        # Release slots before the update, because this step may add a request with the id of an
        # aborted request.
        for req_id in scheduler_output.finished_req_ids:
            self._release(req_id)
        correction = super()._update_states(scheduler_output)
        if self.input_batch.req_ids != self._batch_ids:
            self._rebatch()
        return correction

    def _rebatch(self) -> None:
        """Assign slots after the batch has changed, and stage the rows of new requests."""
        self._batch_ids = list(self.input_batch.req_ids)
        # forget the ids, because equal ids can have other slots in the next step
        self._ordered_ids = []
        for req_id in self._slot_of.keys() - set(self._batch_ids):
            self._release(req_id)
        model = self.get_model()
        for req_id in self._batch_ids:
            if req_id not in self._slot_of:
                self._slot_of[req_id] = slot = self._free_slots.pop()
                request = self.requests[req_id]
                params, lora = request.sampling_params, request.lora_request
                extra = (params and params.extra_args) or {}
                embedding = unpack(extra.get(EXTRA_ARG), model.embedding_dim)
                model.arrival.stage(slot, embedding, lora.lora_int_id if lora else 0)

    def _release(self, req_id: str) -> None:
        slot = self._slot_of.pop(req_id, None)
        if slot is not None:
            self._free_slots.append(slot)
            self._batch_ids = []

    def _preprocess(
        self, scheduler_output: SchedulerOutput, num_input_tokens: int, *args: Any
    ) -> tuple[Any, ...]:
        # Compute the rows here and not in _update_states. Only after _update_states, attention
        # backends reorder the batch and vLLM activates the step's LoRA adapters.
        model = self.get_model()
        model.arrival.flush()
        req_ids = self.input_batch.req_ids
        if req_ids != self._ordered_ids:
            self._ordered_ids = list(req_ids)
            self._slots = np.array([self._slot_of[req_id] for req_id in req_ids])
        counts = np.diff(self.query_start_loc.np[: len(req_ids) + 1])
        model.slots.point(self._slots, counts)
        return super()._preprocess(scheduler_output, num_input_tokens, *args)


class ConditionedCPURunner(ConditionedRunner, CPUModelRunner):
    """The runner on a CPU. The base classes must be in this order, because CPUModelRunner also
    derives from GPUModelRunner.
    """
