"""/v1/batches in OpenAI's format: create, list, read and cancel batches.

This module handles HTTP only; `api/batches` stores and runs the batches. Each API key owns its
batches. On a server without keys, all clients share all batches.
"""

import asyncio
import re
import secrets
import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StringConstraints

from server.api.batches.record import BatchRecord
from server.api.batches.store import OwnedBatches
from server.api.body import read_json
from server.api.prompt.inputs import parse
from server.api.routes.files import checked_seconds, list_page
from server.api.state import AppState, state_of
from server.context import current
from server.errors import BadRequest, NotFound, TooLarge, Unavailable
from server.media.files import OwnedFiles

router = APIRouter(prefix="/v1/batches")

ENGINE_ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
ENDPOINTS = ("/v1/embeddings", *ENGINE_ENDPOINTS)
WINDOW = re.compile("([1-9][0-9]?)h")
MAX_HOURS = 24
MAX_LISTED = 100

Metadata = dict[
    Annotated[str, StringConstraints(max_length=64)],
    Annotated[str, StringConstraints(max_length=512)],
]


class Expiry(BaseModel):
    anchor: str
    seconds: int


class BatchRequest(BaseModel):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = Field(None, max_length=16)
    output_expires_after: Expiry | None = None


def owned(request: Request) -> OwnedBatches:
    return state_of(request).batches.store.of(current().key_salt)


@router.post("")
async def create_batch(raw_request: Request) -> JSONResponse:
    state = state_of(raw_request)
    incoming = await read_json(raw_request)
    request = parse(BatchRequest, incoming.document)
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    files = state.components.files.of(current().key_salt)
    record = new_record(request, state)
    batches = owned(raw_request)

    def create() -> None:
        check_input(request, files, state)
        batches.create(record, lambda path: files.link(request.input_file_id, path))

    await asyncio.to_thread(create)
    state.batches.start(batches, record)
    return JSONResponse(record.document())


@router.get("")
async def list_batches(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
) -> JSONResponse:
    batches = owned(request)
    records = await asyncio.to_thread(batches.all)
    return JSONResponse(list_page(records, after, limit, "batch", partial(document, batches)))


@router.get("/{batch_id}")
async def retrieve_batch(request: Request, batch_id: str) -> JSONResponse:
    return JSONResponse(await asyncio.to_thread(read_document, owned(request), batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_batch(request: Request, batch_id: str) -> JSONResponse:
    """Cancel a batch. Its running requests finish; the other requests get an error in the error
    file.
    """
    batches = owned(request)

    def cancel() -> dict[str, Any]:
        record = batches.get(batch_id)
        if record.final:
            raise BadRequest(
                f"the batch has already ended: it is {record.status}",
                param="batch_id",
                code="batch_finished",
            )
        batches.cancel(batch_id)
        return read_document(batches, batch_id)

    return JSONResponse(await asyncio.to_thread(cancel))


def document(batches: OwnedBatches, record: BatchRecord) -> dict[str, Any]:
    return record.document(batches.cancelling_at(record.id))


def read_document(batches: OwnedBatches, batch_id: str) -> dict[str, Any]:
    """Raises NotFound."""
    return document(batches, batches.get(batch_id))


def new_record(request: BatchRequest, state: AppState) -> BatchRecord:
    """Check the request, except its input file. Returns the batch's record. Raises BadRequest."""
    if request.endpoint not in ENDPOINTS:
        raise BadRequest(f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    if request.endpoint in ENGINE_ENDPOINTS and not state.components.language_model:
        raise BadRequest(
            "this server has no language model, only encoders; use the route embeddings",
            param="endpoint",
            code="no_language_model",
        )
    window = WINDOW.fullmatch(request.completion_window)
    if window is None or int(window[1]) > MAX_HOURS:
        raise BadRequest(
            f"completion_window must be 1h to {MAX_HOURS}h, for example 24h",
            param="completion_window",
        )
    now = int(time.time())
    return BatchRecord(
        id=f"batch_{secrets.token_hex(16)}",
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        created_at=now,
        expires_at=now + int(window[1]) * 3600,
        metadata=request.metadata,
        output_lifetime_s=output_lifetime(request, state),
    )


def output_lifetime(request: BatchRequest, state: AppState) -> int | None:
    expiry = request.output_expires_after
    if expiry is None:
        return None
    if expiry.anchor != "created_at":
        raise BadRequest("the anchor must be created_at", param="output_expires_after.anchor")
    max_age_s = state.components.files.limits.max_age_s
    return checked_seconds(expiry.seconds, max_age_s, "output_expires_after.seconds")


def check_input(request: BatchRequest, files: OwnedFiles, state: AppState) -> None:
    """Check the input file. Raises NotFound, BadRequest, TooLarge: when a batch cannot use this
    file.
    """
    try:
        record = files.record(request.input_file_id)
    except NotFound as error:
        raise NotFound(error.message, param="input_file_id", code=error.code) from None
    if record.purpose != "batch":
        raise BadRequest(
            f"the file's purpose is {record.purpose}; upload it with the purpose batch",
            param="input_file_id",
        )
    if record.bytes > (maximum := state.settings.max_batch_bytes):
        raise TooLarge(f"the file is larger than {maximum} bytes", param="input_file_id")
