"""ConditionedLLM: vLLM's engine client, which adds the request's embedding to every prompt.

All routes call `generate`, also for beam search and n > 1. Therefore, no request can generate
without an embedding, or with one that a client wrote into vLLM's fields. This module does not
compute embeddings.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.utils.async_utils import cancel_task_threadsafe
from vllm.v1.engine.async_llm import AsyncLLM

from model_ext.config import BindServeConfig
from model_ext.engine.step_clock import StepClock
from server.context import engine_inputs, timeline
from server.engine import special_tokens
from server.errors import BadRequest, Unavailable

CheckOutputs = Callable[[StructuredOutputsParams], Awaitable[StructuredOutputsParams]]


class ConditionedLLM(AsyncLLM):
    _check_outputs: CheckOutputs | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = BindServeConfig.from_hf(self.model_config.hf_config.to_dict())
        self.embedding_dim = config.imagebind.embedding_dim
        if self.renderer.tokenizer is not None:
            special_tokens.guard(self.renderer.tokenizer)
        self.draining = False
        self.max_tokens: int | None = None  # maximum number of tokens of one choice
        self.step_clock = StepClock(None)
        self._busy_since: float | None = None

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate with the request's embedding.

        This is not a coroutine, because it must read the request's context in the caller's task,
        before streaming starts.
        """
        if not isinstance(prompt, dict) or "prompt_token_ids" not in prompt:
            raise TypeError(f"expected a rendered prompt, got {type(prompt).__name__}")
        self._reject_fatal(sampling_params)
        prompt, extra_args = engine_inputs(prompt, sampling_params.extra_args, self.embedding_dim)
        sampling_params.extra_args = extra_args
        timeline().begin_generating()
        if self.max_tokens is not None:
            requested = sampling_params.max_tokens or self.max_tokens
            sampling_params.max_tokens = min(requested, self.max_tokens)
        outputs: AsyncGenerator[RequestOutput, None] = super().generate(
            prompt, sampling_params, request_id, **options
        )
        return outputs

    def check_outputs_with(self, check: CheckOutputs) -> None:
        """Check the structured outputs of each request with `check`, which replaces vLLM's check in
        the event loop. The engine gets the value that `check` returns.
        """
        self._check_outputs = check
        self.input_processor.structured_outputs_config = None

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *args: Any, **options: Any
    ) -> Any:
        """Check the request's structured outputs, and add the request to the engine."""
        if self._check_outputs and (outputs := getattr(params, "structured_outputs", None)):
            params.structured_outputs = await self._check_outputs(outputs)
        return await super().add_request(request_id, prompt, params, *args, **options)

    def _reject_fatal(self, params: SamplingParams) -> None:
        """Reject `prompt_logprobs` in two configurations in which it would end vLLM 0.32's engine.

        On a CPU, LoRA fails for the logits of a prompt. On a GPU, Model Runner V1 indexes these
        logits with a tensor on the CPU.
        """
        if params.prompt_logprobs is None:
            return
        if current_platform.is_cpu():
            if self.vllm_config.lora_config is not None:
                raise BadRequest(
                    "prompt_logprobs is not available on a CPU server with LoRA adapters",
                    param="prompt_logprobs",
                )
        elif not self.vllm_config.use_v2_model_runner:
            raise BadRequest(
                "prompt_logprobs is not available on a GPU server with vLLM's Model Runner V1",
                param="prompt_logprobs",
            )

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        """Reject new requests while the server drains.

        vLLM's handlers call this method before they turn messages into a prompt.
        """
        if self.draining:
            raise Unavailable("the server is shutting down", code="draining")
        super().check_admission(n, request_id)

    @property
    def died(self) -> bool:
        """Whether the engine ended without a shutdown.

        vLLM's `errored` is also true after a shutdown.
        """
        return self.errored and not self.draining

    def stalled_s(self) -> float:
        """Return the seconds since the engine's last step, or 0 if no requests run.

        Call this method regularly: the first call with running requests starts the measurement.
        """
        now = time.monotonic()
        if not self.get_num_unfinished_requests():
            self._busy_since = None
            return 0
        if self._busy_since is None:
            self._busy_since = now
        return max(0, now - max(self._busy_since, self.step_clock.last()))

    def shutdown(self, timeout: float | None = None) -> None:
        """Close the engine client. Any thread may call this method.

        vLLM closes the connection to the engine, and then cancels the task that reads the engine's
        outputs. Between these two steps, the task can log that the engine is dead. To avoid this,
        the method first cancels the task if no request is running, because then there are no
        outputs to read.
        """
        self.draining = True  # from now on, /ready responds with 503
        task = getattr(self, "output_handler", None)
        if task is not None and not self.get_num_unfinished_requests():
            cancel_task_threadsafe(task)
        super().shutdown(timeout)
