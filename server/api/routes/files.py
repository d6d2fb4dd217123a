"""/v1/files in OpenAI's format: upload, list, read and delete files, and read points of clouds.

This module handles HTTP only; `media/files.py` stores the files. Each API key owns the files that
it uploads. On a server without keys, all clients share all files.
"""

import asyncio
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from server.api.embedding.cancellation import CLIENT_DISCONNECTED, unless_disconnected
from server.api.multipart import Form
from server.api.state import state_of
from server.context import current
from server.errors import BadRequest, NotFound
from server.media.files import FileStore, OwnedFiles
from server.media.sources import check_size

router = APIRouter(prefix="/v1/files")

PURPOSES = ("user_data", "vision", "assistants", "batch", "fine-tune", "evals")
MAX_LISTED = 10_000


def owned(request: Request) -> OwnedFiles:
    store: FileStore = state_of(request).components.files
    return store.of(current().key_salt)


@router.post("")
async def upload(request: Request) -> JSONResponse:
    async with state_of(request).components.uploads.receive(request) as form:
        file = form.only_file()
        record = await asyncio.to_thread(
            owned(request).add,
            file.spool,
            filename=file.filename,
            purpose=purpose_of(form),
            lifetime_s=lifetime_of(form, state_of(request).components.files.limits.max_age_s),
        )
    return JSONResponse(record.document())


@router.get("")
async def list_files(
    request: Request,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    order: Literal["asc", "desc"] = "desc",
) -> JSONResponse:
    records = await asyncio.to_thread(owned(request).all)
    records = [record for record in records if purpose in (None, record.purpose)]
    if order == "asc":
        records.reverse()
    if after is not None:
        ids = [record.id for record in records]
        if after not in ids:
            raise NotFound("no such file", param="after", code="file_not_found")
        records = records[ids.index(after) + 1 :]
    shown = [record.document() for record in records[:limit]]
    return JSONResponse(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(records) > limit,
        }
    )


@router.get("/{file_id}")
async def retrieve_file(request: Request, file_id: str) -> JSONResponse:
    return JSONResponse(owned(request).record(file_id).document())


@router.get("/{file_id}/content")
async def file_content(request: Request, file_id: str) -> Response:
    content = owned(request).get(file_id).content
    headers = {
        "Content-Length": str(content.size),
        "Content-Disposition": "attachment",  # a browser must save the file and not run it
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(
        content.pieces(), headers=headers, media_type="application/octet-stream"
    )


@router.get("/{file_id}/points")
async def file_points(request: Request, file_id: str) -> Response:
    """The points of a stored point cloud in the unit sphere: for each point, x, y and z as
    little-endian float32 numbers.
    """
    components = state_of(request).components
    content = owned(request).get(file_id).content
    check_size(content, components.attachment_limits.media.bytes_of("point"), "file_id")
    work = components.encoders.decode("points", "point", content)
    points = await unless_disconnected(work, request)
    if points is None:
        return Response(status_code=CLIENT_DISCONNECTED)
    return Response(points.astype("<f4").tobytes(), media_type="application/octet-stream")


@router.delete("/{file_id}")
async def delete_file(request: Request, file_id: str) -> JSONResponse:
    await asyncio.to_thread(owned(request).delete, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def purpose_of(form: Form) -> str:
    purpose = form.fields.get("purpose", b"").decode("utf-8", "replace")
    if purpose not in PURPOSES:
        raise BadRequest(f"purpose must be one of {', '.join(PURPOSES)}", param="purpose")
    return purpose


def lifetime_of(form: Form, max_age_s: int) -> int | None:
    """Return the lifetime in seconds that the form sets, or None for the default.

    The form has the fields `expires_after[anchor]` and `expires_after[seconds]`, as in OpenAI's
    API, or one field `expires_after` with JSON. Raises BadRequest.
    """
    if (document := form.fields.get("expires_after")) is not None:
        return lifetime_of_json(document, max_age_s)
    anchor, seconds = (form.fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != b"created_at":
        raise BadRequest("the anchor must be created_at", param="expires_after[anchor]")
    text = (seconds or b"").decode("utf-8", "replace")
    digits = text.isascii() and text.isdigit() and len(text) < 12
    return checked_seconds(int(text) if digits else None, max_age_s, "expires_after[seconds]")


def lifetime_of_json(text: bytes, max_age_s: int) -> int:
    """Return the seconds in an object such as `{"anchor": "created_at", "seconds": 3600}`. Raises
    BadRequest.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadRequest("expected a JSON object", param="expires_after")
    if document.get("anchor") != "created_at":
        raise BadRequest("the anchor must be created_at", param="expires_after.anchor")
    return checked_seconds(document.get("seconds"), max_age_s, "expires_after.seconds")


def checked_seconds(value: Any, max_age_s: int, param: str) -> int:
    # isinstance would also accept True, because bool is a subclass of int.
    if type(value) is not int or not 1 <= value <= max_age_s:
        raise BadRequest(f"expected a whole number between 1 and {max_age_s}", param=param)
    return value
