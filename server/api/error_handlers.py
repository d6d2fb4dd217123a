"""Turn every exception into an HTTP response with OpenAI's error object.

Handles exceptions of this server, FastAPI, Starlette and vLLM. An unexpected exception is logged,
and the client receives a fixed text without paths or stack traces.
"""

import json
import logging
import re
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from server.api.error_text import PYDANTIC, client_text
from server.errors import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    body,
)
from server.metrics import REJECTIONS

logger = logging.getLogger(__name__)

FAILED = "the server failed to answer this request"


# A field's name in a pydantic error path. Pydantic also adds the names of a union's types to the
# path; this pattern does not match those names.
FIELD = re.compile("[a-z][a-z0-9_]*")
BRANCHES = frozenset({"str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "none"})

BY_STATUS: Mapping[int, type[RequestError]] = {
    error.status: error
    for error in (
        BadRequest,
        Unauthorized,
        NotFound,
        MethodNotAllowed,
        TooLarge,
        UnsupportedMediaType,
        TooManyRequests,
        Unavailable,
    )
}


def install(app: FastAPI, *, language_model: bool) -> None:
    """Install `handle` as the application's handler for all exceptions.

    The handlers of specific classes run inside the metrics middleware. The handler of `Exception`
    runs outside of it. After that handler, Starlette raises the exception again, and uvicorn logs
    it.
    """
    framework_errors = (ClientDisconnect, HTTPException, RequestValidationError)
    for error_class in (RequestError, *framework_errors, Exception):
        app.add_exception_handler(error_class, handle)
    app.state.vllm_errors = language_model
    if language_model:
        from vllm.exceptions import VLLMError

        # vLLM's request handlers raise these exceptions for errors in a client's request.
        builtin_errors = (ValueError, TypeError, OverflowError, NotImplementedError)
        for error_class in (VLLMError, *builtin_errors):
            app.add_exception_handler(error_class, handle)


async def handle(request: Request, error: Exception) -> JSONResponse:
    request_error = to_request_error(error, from_vllm=request.app.state.vllm_errors)
    # Break a reference cycle, which would keep the request's files open until a garbage collection:
    # the error references its stack frames, one of vLLM's frames references a task, and the task
    # references the error.
    traceback.clear_frames(error.__traceback__)
    if request_error.status >= 500 and not isinstance(error, RequestError):
        log = logger.debug if isinstance(request_error, Unavailable) else logger.error
        log("%s %s: %s", request.method, request.scope["path"], type(error).__name__)
    headers = error.headers if isinstance(error, HTTPException) else None
    if isinstance(request_error, MethodNotAllowed):
        headers = {"Allow": ", ".join(sorted(methods(request)))}
    return error_response(request_error, headers)


def methods(request: Request) -> set[str]:
    """All methods that the request's path supports. Starlette's `Allow` header lists only those of
    the first matching route.
    """
    routes = [
        route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE
    ]
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


def error_response(error: RequestError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    REJECTIONS.labels(error.code or error.type).inc()
    return JSONResponse(body(error), error.status, headers={**error.headers, **(headers or {})})


def to_request_error(error: Exception, *, from_vllm: bool = True) -> RequestError:
    """`from_vllm`: whether vLLM's handlers may have raised the error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ClientDisconnect):
        # The client has disconnected and never gets this response.
        return BadRequest("the request ended early")
    # FastAPI wraps errors that are raised while it reads the body.
    if isinstance(error.__cause__, RequestError):
        return error.__cause__
    if isinstance(error, HTTPException):
        return from_status(error.status_code, client_text(_phrase(error)))
    if isinstance(error, RequestValidationError):
        return _from_validation(error)
    return _from_vllm(error) if from_vllm else InternalError(FAILED)


def from_status(status: int, message: str, param: str | None = None) -> RequestError:
    """Create the error for an HTTP status. Status 422 becomes 400, as in OpenAI's API."""
    error_class = BY_STATUS.get(status, InternalError if status >= 500 else BadRequest)
    return error_class(message, param=param)


def from_vllm_response(error: Any) -> RequestError:
    """Convert vLLM's `ErrorResponse`, which vLLM's handlers return instead of raising."""
    return _from_vllm_fields(int(error.error.code), error.error.message, error.error.param)


def from_event(event: str) -> RequestError:
    """Convert an error in a stream to an exception of this server. vLLM's handlers send such an
    error as an event `data: {"error": ...}`.
    """
    fields = json.loads(event.removeprefix("data: "))["error"]
    return _from_vllm_fields(int(fields["code"]), fields["message"], fields.get("param"))


def stream_message(message: str) -> str:
    """Remove the server's internals from the message of an error in a stream of /v1/responses or
    /v1/messages. vLLM sends these errors without a status.
    """
    # This message means that vLLM could not parse its own event. The client made no mistake.
    if PYDANTIC.match(message):
        return FAILED
    return client_text(message)


def in_openai_form(response: Response) -> Response:
    """Convert an error response of vLLM, which has three error formats, to OpenAI's format."""
    if response.status_code < 400:
        return response
    fields = json.loads(bytes(response.body))["error"]
    return error_response(
        _from_vllm_fields(response.status_code, fields["message"], fields.get("param"))
    )


def _from_vllm_fields(status: int, message: str, param: str | None) -> RequestError:
    if status == HTTPStatus.NOT_IMPLEMENTED:  # the model cannot do what the request asks for
        status = HTTPStatus.BAD_REQUEST
    if status >= 500 and status != HTTPStatus.SERVICE_UNAVAILABLE:
        message = FAILED
    error = from_status(status, client_text(message, param), param)
    if isinstance(error, NotFound) and param == "model":
        error.code = "model_not_found"
    return error


def _from_vllm(error: Exception) -> RequestError:
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineDeadError):
        return Unavailable("the engine is down", code="engine_down")
    return from_vllm_response(create_error_response(error))


def _from_validation(error: RequestValidationError) -> RequestError:
    """Return the error for the first fault that pydantic reports. The message omits the client's
    value.
    """
    errors = error.errors()
    if not errors or not isinstance(errors[0], dict):
        return BadRequest("the request is not valid")
    first = errors[0]
    if first["type"] == "json_invalid":
        return BadRequest("the request is not JSON")
    cause = first.get("ctx", {}).get("error")  # one of vLLM's validators raised this exception
    param = getattr(cause, "parameter", None) or _param(first["loc"])
    message = cause.args[0] if isinstance(cause, Exception) and cause.args else first["msg"]
    message = client_text(str(message), param)
    return BadRequest(f"{param}: {message}" if param else message, param=param)


def _param(loc: tuple[Any, ...]) -> str | None:
    """Format a pydantic error path as a parameter name, without the names of a union's types.

    Example: ("body", "messages", 0, "content") -> "messages[0].content".
    """
    path = ""
    for key in loc[1:] if loc[:1] in (("body",), ("query",)) else loc:
        if isinstance(key, int):
            path += f"[{key}]"
        elif FIELD.fullmatch(key) and key not in BRANCHES:
            path += f".{key}" if path else key
    return path or None


def _phrase(error: HTTPException) -> str:
    if isinstance(error.detail, str) and error.detail:
        return error.detail
    return HTTPStatus(error.status_code).phrase
