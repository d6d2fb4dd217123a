"""How a process sends an error to another process: as JSON with the keys kind, message and code."""

from collections.abc import Mapping

from server.errors import BadRequest, InternalError, RequestError, Unavailable

Described = dict[str, str | None]
Kinds = Mapping[str, type[RequestError]]


class MessageError(Exception):
    """Raised when a message breaks the format."""


def kinds(*errors: type[RequestError]) -> Kinds:
    return {error.__name__: error for error in errors}


ERRORS = kinds(BadRequest, Unavailable, InternalError)


def describe_error(error: RequestError, errors: Kinds = ERRORS) -> Described:
    """Return an error as JSON. An error that is not in `errors` becomes an InternalError."""
    name = type(error).__name__
    kind = name if name in errors else InternalError.__name__
    return {"kind": kind, "message": error.message, "code": error.code}


def raise_described(error: Mapping[str, str | None] | None, errors: Kinds = ERRORS) -> None:
    """Raise an error that `describe_error` returned. For None, does nothing."""
    if error is not None:
        kind = errors.get(str(error.get("kind")), InternalError)
        raise kind(str(error.get("message")), code=error.get("code"))
