"""The protocol of Weaviate's module multi2vec-bind: /vectorize, /meta and /.well-known/*.

Vectors are ImageBind's outputs without normalisation to length 1: Weaviate adds the vectors of
several fields, so each vector's norm is its weight in the sum.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from model_ext.conditioning import Vector
from server.api.body import Incoming, Json, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.state import AppState, state_of
from server.conditioning.first_error import all_results
from server.errors import BadRequest, TooLarge, Unavailable
from server.media.attachments import Attachment
from server.media.base64 import read_base64, read_data_url
from server.media.blob import MemoryBlob

router = APIRouter()

# Field of the request -> modality of its items, and the response's field with their vectors.
FIELDS = {
    "texts": ("text", "textVectors"),
    "images": ("image", "imageVectors"),
    "audio": ("audio", "audioVectors"),
    "video": ("video", "videoVectors"),
    "imu": ("imu", "imuVectors"),
    "thermal": ("thermal", "thermalVectors"),
    "depth": ("depth", "depthVectors"),
}
# Maximum number of inputs that are embedded at a time, of all requests. One client may use half of
# the decoding queue (`decode_waiting`), which is more.
MAX_CONCURRENT = 64
LARGE = 1 << 16  # A thread decodes base64 texts of at least this many characters.


@router.head("/.well-known/live", include_in_schema=False)
@router.get("/.well-known/live", status_code=204)
async def live() -> Response:
    return Response(status_code=204)


@router.head("/.well-known/ready", include_in_schema=False)
@router.get("/.well-known/ready", status_code=204)
async def ready(request: Request) -> Response:
    state = state_of(request)
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    if (missing := state.components.encoders.missing()) is not None:
        raise Unavailable(f"not ready: {missing}", code="not_ready")
    return Response(status_code=204)


@router.get("/meta")
async def meta(request: Request) -> JSONResponse:
    state = state_of(request)
    return JSONResponse({"name": state.settings.name, "imagebind": state.components.description})


@router.post("/vectorize")
async def vectorize(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(respond(incoming, raw_request), raw_request)


async def respond(incoming: Incoming, raw_request: Request) -> Response:
    state = state_of(raw_request)
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    inputs = read_fields(incoming.document, state.settings.max_vectorize_inputs)
    incoming.document.clear()  # `inputs` holds the files; each file is freed when it is embedded
    vectors = await embed_all(inputs, state)
    answer: dict[str, list[Vector]] = {field: [] for _, field in FIELDS.values()}
    for (name, _), vector in zip(inputs, vectors, strict=True):
        answer[FIELDS[name.partition("[")[0]][1]].append(vector)
    content = await asyncio.to_thread(lambda: b"".join(json_of(answer)))
    return Response(content, media_type="application/json")


def json_of(answer: dict[str, list[Vector]]) -> Iterator[bytes]:
    """Yield the JSON of the vectors in pieces. `json.dumps` holds the interpreter's lock until it
    returns. For 1,000 vectors of 1024 numbers, this takes a second, during which the event loop
    would not respond to requests for readiness.
    """
    yield b"{"
    for number, (field, rows) in enumerate(answer.items()):
        yield f'{"," if number else ""}"{field}":['.encode()
        for index, row in enumerate(rows):
            numbers = json.dumps(row.tolist(), separators=(",", ":"), allow_nan=False)
            yield f"{',' if index else ''}{numbers}".encode()
        yield b"]"
    yield b"}"


def read_fields(document: Json, maximum: int) -> list[tuple[str, list[str]]]:
    """Return the name and the text of each input, e.g. ("images[0]", [base64]), in order.

    The text is in a list, so that `embed_all` can remove it and free its memory. Raises BadRequest.
    """
    inputs = []
    for field in FIELDS:
        items = document.get(field) or []
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise BadRequest(f"{field} must be a list of strings", param=field)
        inputs += [(f"{field}[{index}]", [item]) for index, item in enumerate(items)]
    if len(inputs) > maximum:
        raise BadRequest(f"the request has {len(inputs)} inputs, more than {maximum}")
    return inputs


async def embed_all(inputs: list[tuple[str, list[str]]], state: AppState) -> list[Vector]:
    """Embed all inputs. The first error, which names its input, cancels the other inputs."""

    async def limited(name: str, text: list[str]) -> Vector:
        async with state.vectorize_places:
            return await embed(name, text.pop(), state)

    return await all_results(limited(name, text) for name, text in inputs)


async def embed(name: str, text: str, state: AppState) -> Vector:
    """Return ImageBind's output (D,) for one input, not normalised."""
    modality, _ = FIELDS[name.partition("[")[0]]
    limits = state.components.attachment_limits.media
    max_bytes = limits.bytes_of(modality)
    if modality == "text":
        data = text.encode()
        if len(data) > max_bytes:
            raise TooLarge(f"the text is larger than {max_bytes} bytes", param=name)
    elif len(text) > LARGE:
        data = await asyncio.to_thread(read_file, text, max_bytes, name)
    else:
        data = read_file(text, max_bytes, name)
    options = replace(state.components.attachment_limits.options, pad_rows=modality == "imu")
    attachment = Attachment(modality, MemoryBlob(data), 1.0, name, options)
    return await state.components.conditioner.embed_scaled(attachment)


def read_file(text: str, max_bytes: int, name: str) -> bytes:
    """Decode base64, with or without `data:` before it. Raises BadRequest, TooLarge."""
    read = read_data_url if text[:5].lower() == "data:" else read_base64
    return read(text, max_bytes=max_bytes, param=name)
