"""The one place that turns exceptions into responses, whoever raised them.

Ours, FastAPI's, Starlette's and vLLM's end in the same JSON (OpenAI's error object). What the
server did wrong is logged and told in fixed words: no path, no stack, no object's text.
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

logger = logging.getLogger(__name__)

# Pydantic puts the branch of a union into the path of an error: type names are not fields.
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


def install(app: FastAPI) -> None:
    """Handlers for named classes run inside the metrics middleware; `Exception` is the net, and
    raises again after its answer, so that uvicorn logs it."""
    from vllm.exceptions import VLLMError

    ours = (RequestError, ClientDisconnect, HTTPException, RequestValidationError, VLLMError)
    # vLLM's handlers raise these for what a client did wrong.
    raw = (ValueError, TypeError, OverflowError, NotImplementedError)
    for kind in (*ours, *raw, Exception):
        app.add_exception_handler(kind, handle)


async def handle(request: Request, error: Exception) -> JSONResponse:
    found = to_request_error(error)
    # The error holds its frames, and one of vLLM's holds the task that holds the error: the
    # request's files would stay open until the garbage collector comes by.
    traceback.clear_frames(error.__traceback__)
    if found.status >= 500 and not isinstance(error, RequestError):
        log = logger.debug if isinstance(found, Unavailable) else logger.error
        log("%s %s: %s", request.method, request.scope["path"], type(error).__name__)
    headers = error.headers if isinstance(error, HTTPException) else None
    if isinstance(found, MethodNotAllowed):
        headers = {"Allow": ", ".join(sorted(methods(request)))}
    return respond(found, headers)


def methods(request: Request) -> set[str]:
    """All that the path knows: Starlette's own answer tells those of its first route only."""
    routes = [
        route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE
    ]
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


def respond(error: RequestError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body(error), error.status, headers={**error.headers, **(headers or {})})


def to_request_error(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ClientDisconnect):
        return BadRequest("the request ended early")  # for nobody: the client is gone
    if isinstance(error.__cause__, RequestError):  # FastAPI wraps what reading the body raises
        return error.__cause__
    if isinstance(error, HTTPException):
        return from_status(error.status_code, _phrase(error))
    if isinstance(error, RequestValidationError):
        return _from_validation(error)
    return _from_vllm(error)


def from_status(status: int, message: str, param: str | None = None) -> RequestError:
    """422 does not exist here: what cannot be processed is a bad request."""
    kind = BY_STATUS.get(status, InternalError if status >= 500 else BadRequest)
    return kind(message, param=param)


def from_vllm_response(error: Any) -> RequestError:
    """vLLM's `ErrorResponse`, which its handlers return instead of raising."""
    return _from_told(int(error.error.code), error.error.message, error.error.param)


def in_openai_form(answer: Response) -> Response:
    """An answer of one of vLLM's endpoints; errors have three forms there, here one."""
    if answer.status_code < 400:
        return answer
    told = json.loads(bytes(answer.body))["error"]
    return respond(_from_told(answer.status_code, told["message"], told.get("param")))


def _from_told(status: int, message: str, param: str | None) -> RequestError:
    message = message.partition(" (parameter=")[0]  # and the client's own value
    found = from_status(status, message, param)
    if isinstance(found, NotFound) and param == "model":
        found.code = "model_not_found"
    return found


def _from_vllm(error: Exception) -> RequestError:
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineDeadError):
        return Unavailable("the engine is down", code="engine_down")
    found = from_vllm_response(create_error_response(error))
    if found.status == 500:  # its text may be anything
        return InternalError("the server failed to answer this request")
    return found


def _from_validation(error: RequestValidationError) -> RequestError:
    """Pydantic's first complaint, without the client's own value."""
    errors = error.errors()
    if not errors or not isinstance(errors[0], dict):
        return BadRequest("the request is not valid")
    first = errors[0]
    if first["type"] == "json_invalid":
        return BadRequest("the request is not JSON")
    cause = first.get("ctx", {}).get("error")  # what a validator of vLLM's raised
    param = getattr(cause, "parameter", None) or _param(first["loc"])
    message = cause.args[0] if isinstance(cause, Exception) and cause.args else first["msg"]
    return BadRequest(f"{param}: {message}" if param else str(message), param=param)


def _param(loc: tuple[Any, ...]) -> str | None:
    """("body", "messages", 0, "content") -> "messages[0].content"; a union's branches left out."""
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
