"""A vLLM plugin for tests: checks that each token adds the deltas of its request.

vLLM loads the plugin if this folder is on PYTHONPATH. Before each forward pass, the worker compares
the row in each request's slot with the row that it computes from the request's embedding. A
difference stops the engine. Requests without a valid embedding, such as those of vLLM's warm-up,
must have rows of zeros. On a CPU, batches of new requests are padded as for a GPU's CUDA graphs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


def register() -> None:
    """Wrap methods of vLLM's two model runners. Only vLLM's worker processes call these methods."""
    from vllm.logger import init_logger

    from model_ext.conditioning import EXTRA_ARG
    from model_ext.engine.arrival import Arrival
    from model_ext.engine.early_rows import EarlyRows
    from model_ext.engine.runner_v1 import ConditionedRunner
    from model_ext.engine.state_v2 import ConditionedModelState

    if hasattr(ConditionedRunner, "checker"):
        return
    log = init_logger("vllm.slot_checking").info

    def packed_embedding(params: Any) -> Any:
        return ((params and params.extra_args) or {}).get(EXTRA_ARG)

    def preprocess(self: Any, scheduler_output: Any, *args: Any) -> Any:
        inputs = original_preprocess(self, scheduler_output, *args)
        self.checker = getattr(self, "checker", None) or Checker(self.get_model(), log)
        scheduled = scheduler_output.num_scheduled_tokens
        self.checker.check(
            (packed_embedding(self.requests[req_id].sampling_params), scheduled[req_id])
            for req_id in self.input_batch.req_ids
        )
        return inputs

    def add_request(self: Any, req_index: int, data: Any) -> None:
        original_add_request(self, req_index, data)
        packed = packed_embedding(data.sampling_params)
        self.packed = getattr(self, "packed", {}) | {data.req_id: packed}

    def prepare_inputs(self: Any, batch: Any, states: Any) -> Any:
        inputs = original_prepare_inputs(self, batch, states)
        # requests of vLLM's dummy runs are not in `packed`
        if hasattr(self, "packed") and set(batch.req_ids) <= self.packed.keys():
            self.checker = getattr(self, "checker", None) or Checker(self.model, log)
            counts = batch.query_start_loc_np[1:] - batch.query_start_loc_np[:-1]
            self.checker.check(
                (self.packed[req_id], int(count))
                for req_id, count in zip(batch.req_ids, counts, strict=False)
            )
        return inputs

    def build_arrival(self: Any, table: Any, deltas: Any, embedding_dim: int, device: Any) -> None:
        original_arrival(self, table, deltas, embedding_dim, device)
        if not device.captures:
            self.capture()  # captures no graphs on a CPU, but makes Arrival pad batches

    def exchange(self: Any, packed: bytes, row: int) -> int:
        early: int = original_exchange(self, packed, row)
        self.used = getattr(self, "used", 0) + (early != row)
        log_powers_of_2(log, "early rows used: %d", self.used if early != row else 0)
        return early

    original_exchange, EarlyRows.exchange = EarlyRows.exchange, exchange
    original_arrival, Arrival.__init__ = Arrival.__init__, build_arrival
    original_preprocess = ConditionedRunner._preprocess
    original_add_request = ConditionedModelState.add_request
    original_prepare_inputs = ConditionedModelState.prepare_inputs
    ConditionedRunner._preprocess = preprocess
    ConditionedModelState.add_request = add_request
    ConditionedModelState.prepare_inputs = prepare_inputs
    ConditionedRunner.checker = None


def log_powers_of_2(log: Callable[..., None], message: str, count: int) -> None:
    if count and count & (count - 1) == 0:
        log(message, count)


class Checker:
    def __init__(self, model: Any, log: Callable[..., None]) -> None:
        self.model, self.log = model, log
        self.rows: dict[Any, torch.Tensor] = {}  # packed embedding -> expected rows
        self.checked = 0
        # In half precision, the products of a padded batch are rounded differently.
        exact = model.slots.deltas.dtype == torch.float32 and not model.slots.deltas.is_cuda
        self.tolerance = 1e-4 if exact else 2e-2

    def check(self, batch: Iterable[tuple[Any, int]]) -> None:
        """Check the slots of a batch. The argument has (packed embedding, number of tokens) for
        each request.
        """
        table, start = self.model.slots, 0
        for packed, count in batch:
            slots = table.slot_of_token[start : start + count].unique().tolist()
            assert len(slots) == 1, f"the tokens of one request point at slots {slots}"
            row, expected = table.deltas[:, slots[0]], self.expected(packed)
            torch.testing.assert_close(
                row, expected, rtol=self.tolerance, atol=self.tolerance * self.scale(expected)
            )
            start += count
            if self.model_embedding(packed) is None:
                continue
            self.checked += 1
            log_powers_of_2(self.log, "slots checked: %d", self.checked)

    def expected(self, packed: Any) -> torch.Tensor:
        if packed not in self.rows:
            table = self.model.slots.deltas
            embedding = self.model_embedding(packed)
            if embedding is None:
                self.rows[packed] = torch.zeros_like(table[:, 0])
            else:
                batch = torch.from_numpy(embedding)[None].to(table.device)
                self.rows[packed] = self.model.deltas(batch, [0])[:, 0]
        return self.rows[packed]

    def model_embedding(self, packed: Any) -> Any:
        from model_ext.conditioning import unpack

        return unpack(packed, self.model.embedding_dim)

    @staticmethod
    def scale(expected: torch.Tensor) -> float:
        """Return the larger of 1 and the largest absolute value in `expected`."""
        return max(1.0, float(expected.abs().max()))
