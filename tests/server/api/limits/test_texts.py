"""Texts that are too long for the model's context are rejected before the tokenizer reads them."""

from types import SimpleNamespace
from typing import Any

import pytest

from server.api.limits.texts import PromptLimits, check_texts, prompt_limits
from server.errors import BadRequest
from tests.server.application import serve

LIMITS = PromptLimits(tokens=10, characters=10)


def message(content: Any) -> Any:
    return {"role": "user", "content": content}


LONG: list[tuple[str, Any]] = [
    ("prompt", "x" * 11),
    ("prompt", ["x", "x" * 11]),
    ("messages", [message("x" * 6), message("x" * 5)]),
    ("messages", [message([{"type": "text", "text": "x" * 6}] * 2)]),
    ("messages", [message([{"type": "tool_result", "content": [{"text": "x" * 11}]}])]),
    ("input", "x" * 11),
    ("input", [{"type": "function_call_output", "output": "x" * 11}]),
    ("system", "x" * 11),
    ("instructions", "x" * 11),
]
FITTING: list[tuple[str, Any]] = [
    ("prompt", ["x" * 10, "x" * 10]),
    ("messages", [message("x" * 5), message([{"text": "x" * 5}])]),
    ("messages", [message(None), message([1, "x" * 10]), message({"a": 1}), 5]),
    ("prompt", list(range(99))),
    ("user", "x" * 99),
]


@pytest.mark.parametrize(("field", "value"), LONG)
def test_a_long_text_is_rejected(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=r"has 1[12] characters, and .* at most 10") as caught:
        check_texts({field: value}, LIMITS)
    assert (caught.value.param, caught.value.code) == (field, "context_length_exceeded")
    check_texts({field: value}, PromptLimits(10, 12))
    check_texts({field: value}, None)


@pytest.mark.parametrize(("field", "value"), FITTING)
def test_other_texts_pass(field: str, value: Any) -> None:
    check_texts({field: value}, LIMITS)


@pytest.mark.parametrize("field", ["messages", "input"])
def test_more_messages_than_tokens_are_rejected(field: str) -> None:
    check_texts({field: [message("")] * 10}, LIMITS)
    with pytest.raises(BadRequest, match=r"has 11 messages, and .* at most 10") as caught:
        check_texts({field: [message("")] * 11}, LIMITS)
    assert (caught.value.param, caught.value.code) == (field, "context_length_exceeded")


def test_the_maximum_is_that_of_the_longest_tokens() -> None:
    tokenizer = SimpleNamespace(max_chars_per_token=7)
    config = SimpleNamespace(model_config=SimpleNamespace(max_model_len=512))
    engine = SimpleNamespace(vllm_config=config, renderer=SimpleNamespace(tokenizer=tokenizer))
    assert prompt_limits(engine) == PromptLimits(512, 3584)
    engine.renderer.tokenizer = None
    assert prompt_limits(engine) is None


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/v1/chat/completions", "messages", [message("x" * 11)]),
        ("/v1/completions", "prompt", "x" * 11),
        ("/v1/responses", "input", "x" * 11),
        ("/v1/messages", "messages", [message("x" * 11)]),
        ("/v1/messages/count_tokens", "messages", [message("x" * 11)]),
        ("/tokenize", "prompt", "x" * 11),
    ],
)
async def test_every_route_checks_its_texts(path: str, field: str, value: Any) -> None:
    served = serve()
    served.app.state.prompt_limits = LIMITS
    document = {"model": "tiny", "max_tokens": 1, field: value}
    response = await served.client.post(path, json=document)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert response.json()["error"]["param"] == field
    assert not served.handler.seen
