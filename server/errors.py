"""The errors of a request: exception classes with their HTTP status and OpenAI's error type.

This module does not depend on the web framework or on vLLM. `api/error_handlers.py` turns these and
all other exceptions into responses.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

# Seconds after which a client should retry. By then, a full queue usually has free places.
RETRY_AFTER_S = 1


class RequestError(Exception):
    """Base class of the errors that clients receive.

    The message is sent to the client, so it must contain no path and no stack trace.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param  # name of the wrong field or part, e.g. "messages[0].content[1]"
        self.code = code or self.default_code


class BadRequest(RequestError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(RequestError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class NotFound(RequestError):
    status = 404
    type = "not_found_error"


class MethodNotAllowed(RequestError):
    status = 405
    type = "invalid_request_error"


class RequestTimeout(RequestError):
    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class TooLarge(RequestError):
    status = 413
    type = "invalid_request_error"
    default_code = "too_large"


class UnsupportedMediaType(RequestError):
    status = 415
    type = "invalid_request_error"


class TooManyRequests(RequestError):
    status = 429
    type = "rate_limit_error"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class HeadersTooLarge(RequestError):
    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class Unavailable(RequestError):
    """Raised when a component is full, draining or stopped. The client may send the
    request again.
    """

    status = 503
    type = "service_unavailable_error"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class InternalError(RequestError):
    status = 500


def body(error: RequestError) -> dict[str, Any]:
    """Return OpenAI's error object. It has the same four keys for every error of every route."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }
