"""The runner adapter (the code that passes embeddings to the model) for vLLM's Model Runner V2.

vLLM uses this runner on GPUs by default. The adapter is a subclass of vLLM's model state. vLLM
assigns a state index to each request, and the adapter assigns a slot (the index of a row) to each
state index. A state index changes its slot only when its new request gets a row that was computed
early. vLLM calls `add_request` again when a preempted request continues, so its row is computed
again. No method waits for the device, because vLLM prepares a step while the device runs the
previous step.
"""

from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.logger import init_logger
from vllm.v1.core.sched.output import NewRequestData
from vllm.v1.worker.gpu.input_batch import InputBatch
from vllm.v1.worker.gpu.mm.encoder_cache import EncoderCache
from vllm.v1.worker.gpu.model_states.default import DefaultModelState
from vllm.v1.worker.gpu.states import RequestState

from model_ext.conditioning import EXTRA_ARG, unpack
from model_ext.engine.early_rows import EarlyRows
from model_ext.engine.model import ImageBindLLMForCausalLM
from model_ext.engine.step_clock import StepClock
from model_ext.engine.upcoming import LastNewRequest, packed_embedding

logger = init_logger(f"vllm.{__name__}")  # vLLM prints only loggers named vllm.*


class ConditionedModelState(DefaultModelState):
    def __init__(
        self,
        vllm_config: VllmConfig,
        model: ImageBindLLMForCausalLM,
        encoder_cache: EncoderCache | None,
        device: torch.device,
    ) -> None:
        super().__init__(vllm_config, model, encoder_cache, device)
        self.model: ImageBindLLMForCausalLM = model
        self._step_clock = StepClock.inherited()
        indices = vllm_config.scheduler_config.max_num_seqs
        self._slot_of_index = np.arange(indices)
        self._early_rows = EarlyRows(range(indices, model.slots.rows))
        logger.info("bindserve conditions requests through %s", type(self).__name__)

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        super().add_request(req_index, new_req_data)
        self._assign_row(req_index, new_req_data)
        if isinstance(new_req_data, LastNewRequest):
            for packed, row in self._early_rows.replace(new_req_data.upcoming):
                self.model.arrival.stage(row, unpack(packed, self.model.embedding_dim))

    def _assign_row(self, req_index: int, request: NewRequestData) -> None:
        """Assign a row that was computed early, or else stage the row of this state index."""
        own = slot = int(self._slot_of_index[req_index])
        if packed := packed_embedding(request):
            slot = self._early_rows.exchange(packed, own)
        self._slot_of_index[req_index] = slot
        if slot == own:
            params, lora = request.sampling_params, request.lora_request
            extra = (params and params.extra_args) or {}
            embedding = unpack(extra.get(EXTRA_ARG), self.model.embedding_dim)
            self.model.arrival.stage(own, embedding, lora.lora_int_id if lora else 0)

    def apply_staged_writes(self) -> None:
        """Compute the rows of new requests now, while the host still prepares the step's inputs.
        vLLM calls this method before `prepare_inputs`, in steps with new requests.
        """
        super().apply_staged_writes()
        self.model.arrival.flush(with_adapter=False)

    def prepare_inputs(self, input_batch: InputBatch, req_states: RequestState) -> dict[str, Any]:
        self._step_clock.record()
        # Requests with LoRA adapters, which vLLM activates only after apply_staged_writes.
        self.model.arrival.flush()
        counts = np.diff(input_batch.query_start_loc_np[: input_batch.num_reqs + 1])
        indices = input_batch.idx_mapping_np[: input_batch.num_reqs]
        self.model.slots.point(self._slot_of_index[indices], counts)
        # The model gets no additional inputs: it reads the slots from a buffer that does not move,
        # also in CUDA graphs.
        return super().prepare_inputs(input_batch, req_states)
