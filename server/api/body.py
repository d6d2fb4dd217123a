"""Incoming: a request's JSON object and the files that came with it, read and checked.

Dependencies of every route that takes a request for the model: what the operator does not allow is
refused before anything looks at the rest. Large documents are parsed in a thread.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from server.api.field_limits import check_caps, check_engine_fields
from server.api.state import state_of
from server.errors import BadRequest, UnsupportedMediaType
from server.media.sources import Upload

Json = dict[str, Any]

LARGE = 1 << 18  # bytes: a millisecond of parsing
REQUEST = "request"  # the form's field that holds the JSON
NOT_JSON = "the request is not JSON"


@dataclass(slots=True)
class Incoming:
    document: Json
    uploads: tuple[Upload, ...] = ()
    large: bool = False  # its attachments are better read in a thread

    def take_uploads(self) -> tuple[Upload, ...]:
        """Handed over: they are gone when they are encoded, not when the answer is written."""
        taken, self.uploads = self.uploads, ()
        return taken


async def refuse_fields(request: Request) -> None:
    """For vLLM's routes: FastAPI has parsed the body and keeps the JSON."""
    require_json(request)
    try:
        document = await request.json()
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    check_document(an_object(document), request)


async def read_json(request: Request) -> Incoming:
    require_json(request)
    body = b"".join([chunk async for chunk in request.stream()])  # request.body() would keep it
    return await read_document(body, request)


async def read_json_or_form(request: Request) -> Incoming:
    """multipart/form-data: a field `request`, and files."""
    if media_type(request) != "multipart/form-data":
        return await read_json(request)
    uploads = state_of(request).components.uploads
    async with uploads.receive(request, inline=frozenset({REQUEST})) as form:
        document = form.fields.pop(REQUEST, None)
        if document is None:
            raise BadRequest(f"the form has no field `{REQUEST}` with the JSON", param=REQUEST)
        if form.fields:
            name = next(iter(form.fields))
            raise BadRequest("this field of the form is neither `request` nor a file", param=name)
        incoming = await read_document(document, request)
        taken = tuple(Upload(f.field, f.filename, f.spool.content()) for f in form.files)
        return Incoming(incoming.document, taken, incoming.large)


async def read_document(body: bytes, request: Request) -> Incoming:
    large = len(body) > LARGE
    try:
        document = an_object(
            await asyncio.to_thread(json.loads, body) if large else json.loads(body)
        )
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    check_document(document, request)
    return Incoming(document, large=large)


def check_document(document: Json, request: Request) -> None:
    settings = state_of(request).settings
    check_engine_fields(document, settings.allow_fields)
    check_caps(document, settings)


def an_object(document: Any) -> Json:
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object")
    return document


def require_json(request: Request) -> None:
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
