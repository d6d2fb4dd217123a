"""The arguments that ConditionedLLM passes to vLLM's `generate`. The tests start no engine."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from model_ext.conditioning import EXTRA_ARG, pack
from server.context import NoConditioning, RequestContext, _current
from server.engine.llm import ConditionedLLM
from server.errors import BadRequest, Unavailable

EMBEDDING = pack(np.array([1, 0], np.float32))
PROMPT = {"type": "token", "prompt_token_ids": [1, 2, 3]}


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> ConditionedLLM:
    """A ConditionedLLM whose inherited `generate` returns its arguments."""
    monkeypatch.setattr(AsyncLLM, "generate", lambda _, *args, **options: (*args, options))
    monkeypatch.setattr(AsyncLLM, "check_admission", lambda *_: None)
    monkeypatch.setattr(AsyncLLM, "shutdown", lambda *_: None)
    llm: ConditionedLLM = object.__new__(ConditionedLLM)
    llm.embedding_dim, llm.draining, llm.max_tokens = 2, False, None
    llm.vllm_config = SimpleNamespace(lora_config=None, use_v2_model_runner=False)
    return llm


@pytest.fixture
def request_context() -> Iterator[RequestContext]:
    context = RequestContext(EMBEDDING)
    token = _current.set(context)
    yield context
    _current.reset(token)


@pytest.mark.usefixtures("request_context")
def test_it_conditions_at_once_and_passes_the_rest_on(llm: ConditionedLLM) -> None:
    params = SamplingParams(extra_args={EXTRA_ARG: b"a client's", "other": 1})
    prompt, passed, request_id, options = llm.generate(PROMPT, params, "id", priority=3)  # type: ignore[misc]
    assert passed.extra_args == {EXTRA_ARG: EMBEDDING, "other": 1}
    assert prompt["cache_salt"]
    assert (request_id, options) == ("id", {"priority": 3})
    assert "cache_salt" not in PROMPT


async def test_structured_outputs_are_checked_before_vllm_reads_them(
    llm: ConditionedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add_request(*arguments: Any) -> Any:
        return arguments[-1].structured_outputs

    async def check(outputs: StructuredOutputsParams) -> StructuredOutputsParams:
        if outputs.regex == "(":
            raise BadRequest("bad", param="regex")
        return StructuredOutputsParams(regex="checked")

    monkeypatch.setattr(AsyncLLM, "add_request", add_request)
    llm.input_processor = SimpleNamespace(structured_outputs_config="vLLM's")

    async def add(regex: str) -> Any:
        outputs = StructuredOutputsParams(regex=regex)
        return await llm.add_request("id", PROMPT, SamplingParams(structured_outputs=outputs))

    # with another backend for structured outputs, grammars are not checked
    assert (await add("(")).regex == "("
    llm.check_outputs_with(check)
    assert llm.input_processor.structured_outputs_config is None
    assert (await add("a")).regex == "checked"
    with pytest.raises(BadRequest, match="bad"):
        await add("(")
    assert await llm.add_request("id", PROMPT, SamplingParams()) is None


@pytest.mark.usefixtures("request_context")
def test_the_embedding_survives_what_vllm_does_to_parameters(llm: ConditionedLLM) -> None:
    """vLLM copies a request's parameters, once for each of its n choices. Each copy must contain
    the embedding.
    """
    _, passed, *_ = llm.generate(PROMPT, SamplingParams(n=2), "id")  # type: ignore[misc]
    assert passed.clone().extra_args == {EXTRA_ARG: EMBEDDING}


@pytest.mark.usefixtures("request_context")
@pytest.mark.parametrize(("requested", "effective"), [(None, 50), (20, 20), (50, 50), (51, 50)])
def test_max_tokens_has_an_upper_bound(
    llm: ConditionedLLM, requested: int | None, effective: int
) -> None:
    llm.max_tokens = 50
    _, passed, *_ = llm.generate(PROMPT, SamplingParams(max_tokens=requested), "id")  # type: ignore[misc]
    assert passed.max_tokens == effective


def test_outside_of_a_request_it_refuses(llm: ConditionedLLM) -> None:
    with pytest.raises(NoConditioning):
        llm.generate(PROMPT, SamplingParams(), "id")


@pytest.mark.usefixtures("request_context")
@pytest.mark.parametrize("prompt", ["text", [1, 2], {"prompt": "text"}, {"type": "embeds"}])
def test_only_rendered_prompts_come_in(llm: ConditionedLLM, prompt: Any) -> None:
    with pytest.raises(TypeError, match="expected a rendered prompt"):
        llm.generate(prompt, SamplingParams(), "id")


@pytest.mark.usefixtures("request_context")
@pytest.mark.parametrize(
    ("cpu", "lora", "v2", "reason"),
    [
        (True, None, False, None),
        (True, "lora", False, "CPU server with LoRA"),
        (True, "lora", True, "CPU server with LoRA"),
        (False, None, False, "Model Runner V1"),
        (False, "lora", True, None),
    ],
)
def test_prompt_logprobs_are_rejected_where_they_kill_the_engine(
    llm: ConditionedLLM,
    monkeypatch: pytest.MonkeyPatch,
    cpu: bool,
    lora: str | None,
    v2: bool,
    reason: str | None,
) -> None:
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda _: cpu)
    llm.vllm_config = SimpleNamespace(lora_config=lora, use_v2_model_runner=v2)
    llm.generate(PROMPT, SamplingParams(), "id")
    if reason is None:
        llm.generate(PROMPT, SamplingParams(prompt_logprobs=0), "id")
        return
    with pytest.raises(BadRequest, match=reason) as caught:
        llm.generate(PROMPT, SamplingParams(prompt_logprobs=0), "id")
    assert caught.value.param == "prompt_logprobs"


def test_a_server_that_drains_takes_nothing_new(llm: ConditionedLLM) -> None:
    llm.check_admission(2)
    llm.shutdown(30)
    with pytest.raises(Unavailable) as caught:
        llm.check_admission()
    assert caught.value.code == "draining"


def test_an_engine_that_was_told_to_end_has_not_died(
    llm: ConditionedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: at every Ctrl-C, the server logged that the engine had died, because vLLM's
    `errored` is also true after a shutdown.
    """
    monkeypatch.setattr(AsyncLLM, "errored", True)
    assert llm.died
    llm.shutdown(30)
    assert not llm.died


@pytest.mark.parametrize("running", [0, 1])
async def test_shutdown_cancels_the_reader_of_outputs_only_when_it_is_idle(
    llm: ConditionedLLM, monkeypatch: pytest.MonkeyPatch, running: int
) -> None:
    """If the engine ends, the task that reads its outputs must raise an error in all running
    requests.
    """
    llm.output_handler = task = asyncio.ensure_future(asyncio.sleep(60))
    monkeypatch.setattr(AsyncLLM, "get_num_unfinished_requests", lambda _: running)
    await asyncio.to_thread(llm.shutdown, 0)
    await asyncio.sleep(0)
    assert task.cancelled() == (running == 0)
    task.cancel()
    llm.output_handler = None  # The destructor calls `shutdown` again, which then does nothing.
