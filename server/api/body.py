"""Incoming: a request's JSON object and uploads, read and checked.

Every route of the model uses these functions, so that fields which the operator does not allow are
rejected before other code reads the request. Large documents are parsed in a thread.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from server.api.field_limits import check_engine_fields, check_maxima
from server.api.state import state_of
from server.errors import BadRequest, UnsupportedMediaType
from server.media.sources import Upload

Json = dict[str, Any]

LARGE = 1 << 18  # bytes: a millisecond of parsing
REQUEST = "request"  # the form's field with the JSON
NOT_JSON = "the request is not JSON"


@dataclass(slots=True)
class Incoming:
    document: Json
    uploads: tuple[Upload, ...] = ()
    large: bool = False  # read its attachments in a thread

    def take_uploads(self) -> tuple[Upload, ...]:
        """Remove and return the uploads, so that their files are deleted once they are encoded
        and not at the end of the response."""
        uploads, self.uploads = self.uploads, ()
        return uploads


async def check_body(request: Request) -> None:
    """Check the body of one of vLLM's routes. FastAPI has parsed the JSON and keeps it."""
    require_json(request)
    try:
        document = await request.json()
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    check_document(json_object(document), request)


async def read_json(request: Request) -> Incoming:
    """Raises BadRequest, UnsupportedMediaType."""
    require_json(request)
    body = b"".join([chunk async for chunk in request.stream()])  # request.body() would keep it
    return await read_document(body, request)


async def read_json_or_form(request: Request) -> Incoming:
    """Read JSON, or multipart/form-data with a field `request` and files.

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
    """Parse and check the JSON. Raises BadRequest."""
    large = len(body) > LARGE
    try:
        document = json_object(
            await asyncio.to_thread(json.loads, body) if large else json.loads(body)
        )
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    check_document(document, request)
    return Incoming(document, large=large)


def check_document(document: Json, request: Request) -> None:
    settings = state_of(request).settings
    check_engine_fields(document, settings.allow_fields)
    check_maxima(document, settings)


def json_object(document: Any) -> Json:
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object")
    return document


def require_json(request: Request) -> None:
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
