"""Read and check a request's body: its JSON object and its uploaded files (class `Incoming`).

Every route that uses the model calls these functions first. They reject a request with fields that
the operator does not allow, before other code reads the request. Large JSON documents are parsed in
a thread.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from server.api.grammar.limits import check_grammars
from server.api.large_json import loads
from server.api.limits.fields import check_engine_fields, check_maxima, check_values
from server.api.state import state_of
from server.context import client
from server.errors import BadRequest, UnsupportedMediaType
from server.media.sources import Upload
from server.settings import Settings

Json = dict[str, Any]
Result = TypeVar("Result")

# Documents of more bytes or more values are parsed in a thread. Parsing takes over a millisecond
# per LARGE bytes, and checking up to a millisecond per MANY values.
LARGE = 1 << 18
MANY = 500
REQUEST = "request"  # Name of the form field that contains the JSON.
NOT_JSON = "the request is not JSON"


@dataclass(slots=True)
class Incoming:
    document: Json
    uploads: tuple[Upload, ...] = ()
    # Whether the document is large, so that its attachments are read in a thread.
    large: bool = False

    def take_uploads(self) -> tuple[Upload, ...]:
        """Remove the uploads from this object and return them.

        The caller closes them right after they are encoded. Uploads that stay in this object are
        closed at the end of the response.
        """
        uploads, self.uploads = self.uploads, ()
        return uploads


async def check_body(request: Request) -> None:
    """Check the body of a request to one of vLLM's routes.

    FastAPI has already parsed and stored the JSON.
    """
    require_json(request)
    try:
        document = await request.json()
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    large = is_large(await request.body())
    await run_alone(large, request, check_document, json_object(document))


async def read_json(request: Request) -> Incoming:
    """Read a request's body as a JSON object. Raises BadRequest, UnsupportedMediaType."""
    require_json(request)
    # Read the stream, because request.body() would keep the bytes in memory.
    body = b"".join([chunk async for chunk in request.stream()])
    return await read_document(body, request)


async def read_json_or_form(request: Request) -> Incoming:
    """Read a JSON body, or a multipart/form-data body: a field `request` with the JSON, and files.

    Raises BadRequest, UnsupportedMediaType, TooLarge, Unavailable.
    """
    if media_type(request) != "multipart/form-data":
        return await read_json(request)
    uploads = state_of(request).components.uploads
    async with uploads.receive(request, inline=frozenset({REQUEST})) as form:
        document = form.fields.pop(REQUEST, None)
        if document is None:
            raise BadRequest(f"the form has no field `{REQUEST}` with the JSON", param=REQUEST)
        if form.fields:
            name = next(iter(form.fields))
            raise BadRequest("the form's field is neither `request` nor a file", param=name)
        incoming = await read_document(document, request)
        incoming.uploads = tuple(Upload(f.field, f.filename, f.spool.blob()) for f in form.files)
        return incoming


async def read_document(body: bytes, request: Request) -> Incoming:
    """Parse a JSON body and check its fields. Raises BadRequest."""
    large = is_large(body)
    try:
        document = await run_alone(large, request, checked_json, body)
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    return Incoming(document, large=large)


def is_large(body: bytes) -> bool:
    return len(body) > LARGE or body.count(b",") > MANY


async def run(large: bool, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function that reads a document. For a large document, calls the function in a
    thread.
    """
    return await asyncio.to_thread(function, *args) if large else function(*args)


async def run_alone(
    large: bool, request: Request, function: Callable[[Any, Settings], Result], body: Any
) -> Result:
    """Call `function` with the body and the settings as `run` does, but in one thread at a time.
    Waiting requests of different clients take turns.

    The functions that parse and check a document hold the interpreter's lock. Each further thread
    that waits for this lock would delay the event loop.
    """
    state = state_of(request)
    if not large:
        return function(body, state.settings)
    async with state.reading.turn(client()):
        return await asyncio.to_thread(function, body, state.settings)


def checked_json(body: bytes, settings: Settings) -> Json:
    """Raises ValueError, RecursionError, BadRequest."""
    document = json_object(loads(body))
    check_document(document, settings)
    return document


def check_document(document: Json, settings: Settings) -> None:
    check_values(document)
    check_engine_fields(document, settings.allow_fields)
    check_maxima(document, settings)
    check_grammars(document, settings.grammar)


def json_object(document: Any) -> Json:
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object")
    return document


def require_json(request: Request) -> None:
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
