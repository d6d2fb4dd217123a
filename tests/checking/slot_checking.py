"""A vLLM plugin for tests: in every step, every token must add the row of its own request.

With this folder on PYTHONPATH the worker checks, before each forward pass, that the slots of the
batch hold the rows of the embeddings that the requests came with. A mismatch kills the engine.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


def register() -> None:
    """Both runner adapters; the engine's other processes never call these methods."""
    from vllm.logger import init_logger

    from model_ext.conditioning import EXTRA_ARG
    from model_ext.engine.runner_v1 import ConditionedRunner
    from model_ext.engine.state_v2 import ConditionedModelState

    if hasattr(ConditionedRunner, "checker"):
        return
    log = init_logger("vllm.slot_checking").info

    def extra(params: Any) -> Any:
        return (params.extra_args or {}).get(EXTRA_ARG)

    def preprocess(self: Any, scheduler_output: Any, *args: Any) -> Any:
        inputs = before_v1(self, scheduler_output, *args)
        self.checker = getattr(self, "checker", None) or Checker(self.get_model(), log)
        scheduled = scheduler_output.num_scheduled_tokens
        self.checker.check(
            (extra(self.requests[req_id].sampling_params), scheduled[req_id])
            for req_id in self.input_batch.req_ids
        )
        return inputs

    def add_request(self: Any, req_index: int, data: Any) -> None:
        before_add(self, req_index, data)
        self.packed = getattr(self, "packed", {}) | {data.req_id: extra(data.sampling_params)}

    def prepare_inputs(self: Any, batch: Any, states: Any) -> Any:
        inputs = before_v2(self, batch, states)
        if hasattr(self, "packed") and set(batch.req_ids) <= self.packed.keys():  # no dummy run
            self.checker = getattr(self, "checker", None) or Checker(self.model, log)
            counts = batch.query_start_loc_np[1:] - batch.query_start_loc_np[:-1]
            self.checker.check(
                (self.packed[req_id], int(count))
                for req_id, count in zip(batch.req_ids, counts, strict=False)
            )
        return inputs

    before_v1, ConditionedRunner._preprocess = ConditionedRunner._preprocess, preprocess
    before_add, ConditionedModelState.add_request = ConditionedModelState.add_request, add_request
    before_v2 = ConditionedModelState.prepare_inputs
    ConditionedModelState.prepare_inputs = prepare_inputs
    ConditionedRunner.checker = None


class Checker:
    def __init__(self, model: Any, log: Callable[..., None]) -> None:
        self.model, self.log = model, log
        self.rows: dict[bytes, torch.Tensor] = {}  # by embedding
        self.checked = 0

    def check(self, batch: Iterable[tuple[bytes, int]]) -> None:
        """The requests of a step in order: what each came with, and how many tokens it has."""
        table, start = self.model.slots, 0
        for packed, count in batch:
            slots = table.slot_of_token[start : start + count].unique().tolist()
            assert len(slots) == 1, f"tokens of one request point at slots {slots}"
            torch.testing.assert_close(
                table.deltas[:, slots[0]], self.expected(packed), rtol=1e-4, atol=1e-4
            )
            start += count
            self.checked += 1
            if self.checked & (self.checked - 1) == 0:  # 1, 2, 4, ...
                self.log("slots checked: %d", self.checked)

    def expected(self, packed: bytes) -> torch.Tensor:
        from model_ext.conditioning import unpack

        if packed not in self.rows:
            embedding = unpack(packed, self.model.embedding_dim)
            assert embedding is not None
            self.rows[packed] = self.model.deltas(torch.from_numpy(embedding)[None], [0])[:, 0]
        return self.rows[packed]
