"""The error handlers hide the internals in other libraries' messages from clients."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.exceptions import VLLMValidationError

from server.api.error_handlers import FAILED, from_event, to_request_error


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
