"""Messages of other libraries: what clients see of them."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMValidationError

from server.api.error_handlers import FAILED, from_event, public, to_request_error

INTERNAL = [
    "/usr/lib/vllm/x.py:12: bad grammar",
    "safe_apply_chat_template() got an unexpected keyword argument 'x'",
    "1 validation error for Chat\nmodel\n  Field required [type=missing, input_value={}]",
    "You must use one kind of constraint: {'_backend': None, 'json': None}",
    "<object at 0x7f00aa>",
    "ValueError: no",
]


@pytest.mark.parametrize("message", INTERNAL)
def test_internals_are_replaced(message: str) -> None:
    assert public(message, "json") == "json is not valid"
    assert public(message, None) == "the request is not valid"


def test_plain_messages_stay() -> None:
    message = "This model's maximum context length is 512 tokens."
    assert public(message, "messages") == message
    message = "Input should be a valid dictionary or instance of FunctionDefinition"
    assert public(message, "tools") == "Input should be a valid dictionary"


def test_values_of_the_client_are_cut() -> None:
    message = public("no such model: " + "9" * 4000, None)
    assert len(message) == 200
    assert message.endswith("...")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (VLLMValidationError("too long", parameter="prompt"), 400, "too long"),
        (ValueError("bad value"), 400, "bad value"),
        (NotImplementedError("no beam search"), 400, "no beam search"),
        (KeyError("x"), 500, FAILED),
        (AssertionError("/a/b.py"), 500, FAILED),
        (RequestValidationError([]), 400, "the request is not valid"),
    ],
)
def test_exceptions_of_vllm(error: Exception, status: int, message: str) -> None:
    request_error = to_request_error(error)
    assert (request_error.status, request_error.message) == (status, message)


@pytest.mark.parametrize(
    ("error", "type_", "message"),
    [
        (VLLMValidationError("too long", parameter="prompt"), "invalid_request_error", "too long"),
        (RuntimeError("/a/b.py"), "server_error", FAILED),
    ],
)
def test_errors_in_a_stream(error: Exception, type_: str, message: str) -> None:
    fields: Any = create_error_response(error).model_dump()
    request_error = from_event(f"data: {json.dumps(fields)}\n\n")
    assert (request_error.type, request_error.message) == (type_, message)
