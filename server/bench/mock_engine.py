"""A mock of vLLM's engine client, which returns token streams without computing anything.

With it, a benchmark measures the time of the HTTP server without that of a model. The class
inherits from vLLM's engine client and uses vLLM's configuration, renderer and input processor.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from vllm.exceptions import QueueOverflowError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers import renderer_from_config
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.input_processor import InputProcessor

from server.engine.llm import ConditionedLLM

WORD, TOKEN = " word", 42


class MockLLM(AsyncLLM):
    """Answers every prompt with `max_tokens` words."""

    def __init__(self, vllm_config: Any, seats: int = 0, token_s: float = 0) -> None:
        """`seats`: the number of requests that generate concurrently. As many further requests may
        wait. 0 means no limit. `token_s`: seconds per token.
        """
        self.vllm_config = vllm_config
        self.model_config = vllm_config.model_config
        self.observability_config = vllm_config.observability_config
        self.renderer = renderer_from_config(vllm_config)
        self.input_processor = InputProcessor(vllm_config, self.renderer)
        self.log_requests = self.log_stats = False
        self._most, self._token_s = 2 * seats, token_s
        self._seats = asyncio.Semaphore(seats) if seats else None
        self._running = 0

    errored = False
    is_running = True
    is_stopped = False

    def stalled_s(self) -> float:
        return 0

    def get_num_unfinished_requests(self) -> int:
        """Return 0, because the mock has no engine steps that could stall."""
        return 0

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:  # noqa: ARG002
        if self._most and self._running + n > self._most:
            raise QueueOverflowError("the queue is full")

    async def get_supported_tasks(self) -> tuple[Any, ...]:
        return ("generate",)

    async def is_tracing_enabled(self) -> bool:
        return False

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **_: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self._running += 1
        try:
            if self._seats is None:
                async for output in self._words(prompt, sampling_params, request_id):
                    yield output
                return
            async with self._seats:
                async for output in self._words(prompt, sampling_params, request_id):
                    yield output
        finally:
            self._running -= 1

    async def _words(
        self, prompt: Any, params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        count = params.max_tokens or 16
        delta = params.output_kind is RequestOutputKind.DELTA
        for number in range(1, count + 1):
            await asyncio.sleep(self._token_s)
            last = number == count
            if not (delta or last):
                continue
            words = 1 if delta else count
            yield RequestOutput(
                request_id=request_id,
                prompt=None,
                prompt_token_ids=prompt["prompt_token_ids"],
                prompt_logprobs=None,
                outputs=[
                    CompletionOutput(
                        index=0,
                        text=WORD * words,
                        token_ids=[TOKEN] * words,
                        cumulative_logprob=None,
                        logprobs=None,
                        finish_reason="length" if last else None,
                    )
                ],
                finished=last,
            )

    def shutdown(self, timeout: float | None = None) -> None:
        pass


class ConditionedMockLLM(ConditionedLLM, MockLLM):
    """A mock engine with the methods of `ConditionedLLM`, which add the embedding to every
    request.
    """
