"""/v1/files, in OpenAI's shapes: upload once, refer to it by id, delete it.

HTTP only; `files.py` keeps the files. An owner is an API key; without keys, everybody is one.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from server.api.multipart import Form
from server.api.state import state_of
from server.context import current
from server.errors import BadRequest, NotFound
from server.media.files import FileStore, OwnedFiles

router = APIRouter(prefix="/v1/files")

PURPOSES = ("user_data", "vision", "assistants", "batch", "fine-tune", "evals")
MAX_LISTED = 10_000


def owned(request: Request) -> OwnedFiles:
    store: FileStore = state_of(request).components.files
    return store.of(current().key_salt)


@router.post("")
async def upload(request: Request) -> JSONResponse:
    async with state_of(request).components.uploads.receive(request) as form:
        if len(form.files) != 1 or form.files[0].field != "file":
            raise BadRequest("expected one file, in the field `file`", param="file")
        (file,) = form.files
        if not file.spool.size:
            raise BadRequest("the file is empty", param="file")
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
        "Content-Disposition": "attachment",  # a browser must not run what somebody uploaded
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(
        content.pieces(), headers=headers, media_type="application/octet-stream"
    )


@router.delete("/{file_id}")
async def delete_file(request: Request, file_id: str) -> JSONResponse:
    await asyncio.to_thread(owned(request).delete, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def purpose_of(form: Form) -> str:
    purpose = form.fields.get("purpose", b"").decode("utf-8", "replace")
    if purpose not in PURPOSES:
        raise BadRequest(f"purpose must be one of {', '.join(PURPOSES)}", param="purpose")
    return purpose


def lifetime_of(form: Form, longest: int) -> int | None:
    """OpenAI's `expires_after`: {anchor: "created_at", seconds}, as the form's field names."""
    anchor, seconds = (form.fields.get(f"expires_after[{key}]") for key in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != b"created_at":
        raise BadRequest("the anchor must be created_at", param="expires_after[anchor]")
    given = (seconds or b"").decode("utf-8", "replace")
    return whole_number(given, 1, longest, "expires_after[seconds]")


def whole_number(text: str, least: int, most: int, param: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) < 12
    if not digits or not least <= int(text) <= most:
        raise BadRequest(f"expected a whole number between {least} and {most}", param=param)
    return int(text)
