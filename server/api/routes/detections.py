"""/v1/detections: find things in pictures and videos, without the language model.

`input` is a content part or a list of parts (pictures or videos), `queries` a list of texts or, if
the detector takes embeddings, of content parts of any modality.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from server.api.body import Incoming, Json, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.embedding.embed import check_model
from server.api.grounding.pictures import Pictures, with_pictures
from server.api.grounding.search import (
    Search,
    SearchBox,
    SearchQuery,
    detector_of,
    gather_pictures,
)
from server.api.prompt.inputs import parse, sources_of
from server.api.state import AppState, state_of
from server.errors import BadRequest, Unavailable
from server.media.attachments import Attachment, Part, read_attachment, read_attachments
from server.media.input_forms import item_parts
from server.media.sources import Sources

router = APIRouter()

MAX_QUERY_CHARACTERS = 1000


class DetectionRequest(BaseModel):
    model: str | None = None
    threshold: float | None = Field(None, ge=0, le=1)


@router.post("/v1/detections")
async def create_detections(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(detect(incoming, raw_request), raw_request)


async def detect(incoming: Incoming, raw_request: Request) -> Response:
    state, document = state_of(raw_request), incoming.document
    detector_of(state)
    request = parse(DetectionRequest, document)
    check_model(request.model, state)
    sources = sources_of(incoming, raw_request)

    def read() -> tuple[list[Attachment], list[SearchQuery]]:
        return read_input(document, state, sources), read_queries(document, state, sources)

    files, queries = await asyncio.to_thread(read)
    search = Search(state, request.threshold)
    try:
        async with asyncio.timeout(state.settings.ground_timeout_s):
            pictures = await gather_pictures(state, files)
            boxes = await search.run(pictures, queries)
    except TimeoutError:
        raise Unavailable("the detector was too slow", code="detector_timeout") from None
    body = {
        "object": "list",
        "model": request.model or state.settings.name,
        "data": [
            described(index, each, queries, own)
            for index, (each, own) in enumerate(zip(pictures, boxes, strict=True))
        ],
    }
    return await asyncio.to_thread(JSONResponse, body)


def read_input(document: Json, state: AppState, sources: Sources) -> list[Attachment]:
    """Return the pictures and videos of `input`. Raises a RequestError that names the part."""
    value = document.get("input")
    items = value if isinstance(value, list) else [value]
    parts: list[Part] = []
    for index, item in enumerate(items[: state.settings.max_ground_pictures + 1]):
        param = f"input[{index}]" if isinstance(value, list) else "input"
        if not isinstance(item, dict):
            raise BadRequest("an input must be a content part with a picture or video", param=param)
        parts += item_parts(item, param)
    attachments = read_attachments(parts, state.components.attachment_limits, sources)
    files = with_pictures(attachments, state.settings.max_ground_pictures, "input")
    if len(files) < len(attachments):
        other = next(each for each in attachments if each not in files)
        raise BadRequest("an input must be a picture or a video", param=other.param)
    return files


def read_queries(document: Json, state: AppState, sources: Sources) -> list[SearchQuery]:
    items, maximum = document.get("queries"), state.settings.max_ground_nouns
    if not isinstance(items, list) or not 1 <= len(items) <= maximum:
        raise BadRequest(f"queries must be a list of 1 to {maximum} items", param="queries")
    return [read_query(each, f"queries[{n}]", state, sources) for n, each in enumerate(items)]


def read_query(item: Any, param: str, state: AppState, sources: Sources) -> SearchQuery:
    if isinstance(item, dict) and item.get("type") in ("text", "input_text", "imagebind_text"):
        item = item.get("text", item.get("imagebind_text"))
    if isinstance(item, str):
        if not item.strip() or len(item) > MAX_QUERY_CHARACTERS:
            message = f"a query must have 1 to {MAX_QUERY_CHARACTERS} characters"
            raise BadRequest(message, param=param)
        return SearchQuery(encodable(item, param))
    if not isinstance(item, dict):
        raise BadRequest("a query must be a text or a content part", param=param)
    file = read_attachment(Part(item, param), state.components.attachment_limits, sources)
    return SearchQuery(file=file)


def encodable(text: str, param: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can contain a lone surrogate, which cannot be encoded
        raise BadRequest("the text is not valid Unicode", param=param) from None
    return text


def described(
    index: int, pictures: Pictures, queries: list[SearchQuery], boxes: list[SearchBox]
) -> Json:
    """Return the boxes of one input, with the field names of the package transformers."""
    detections = [
        {"query": each.query, "label": queries[each.query].text or None, **each.to_json()}
        for each in boxes
    ]
    return {
        "index": index,
        "part": pictures.param,
        "width": pictures.width,
        "height": pictures.height,
        "detections": detections,
    }
