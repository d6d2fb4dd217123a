"""/v1/embeddings in OpenAI's format: returns ImageBind's embeddings without using the LLM.

Each item of `input` is a string, a content part, or a list of parts, which are mixed. Each item
results in one embedding of length 1. The retrieval cache is used only if the request sets
`imagebind.cache`.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from model_ext.conditioning import Vector
from server.api.body import Incoming, Json, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.embedding.embed import WindowEmbedding, check_model, embed_parts, embed_windows
from server.api.prompt.inputs import CACHE_HEADER, parse
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned, without_default_cache
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions, take_options
from server.errors import BadRequest
from server.media.input_forms import read_input_forms

router = APIRouter()

USAGE = {"prompt_tokens": 0, "total_tokens": 0}  # 0, because the LLM processes no tokens


class EmbeddingRequest(BaseModel):
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


@router.post("/v1/embeddings")
async def create_embeddings(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(
        respond_with_embeddings(incoming, raw_request), raw_request
    )


async def respond_with_embeddings(incoming: Incoming, raw_request: Request) -> Response:
    state = state_of(raw_request)
    options = without_default_cache(take_options(incoming.document, windows=True))
    request = parse(EmbeddingRequest, incoming.document)
    check_model(request.model, state)
    dim = state.components.attachment_limits.embedding_dim
    if request.dimensions not in (None, dim):
        raise BadRequest(
            f"this model's embeddings have {dim} dimensions and cannot be shortened; "
            f"send dimensions {dim} or omit the field",
            param="dimensions",
        )
    inputs = read_input_forms(incoming.document, state.settings.max_embedding_inputs)
    if options.windows is not None:
        if options.cache:
            raise BadRequest("windows do not use the cache", param="imagebind.cache")
        windows = await embed_windows(inputs, options.windows, incoming, raw_request)
        body = window_list(request, windows, state.settings.name)
        return await asyncio.to_thread(JSONResponse, body, headers={CACHE_HEADER: "off"})
    conditioned = await embed_parts(inputs, options, incoming, raw_request)
    body = embedding_list(request, conditioned, options, state.settings.name)
    headers = {CACHE_HEADER: conditioned[0].explanation.cache}
    # A thread writes the JSON, because the response may have many numbers.
    return await asyncio.to_thread(JSONResponse, body, headers=headers)


def window_list(request: EmbeddingRequest, windows: Sequence[WindowEmbedding], name: str) -> Json:
    """Return OpenAI's list of embeddings, one per window. Each item also has the index of its input
    and the window's start and end in seconds.
    """
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": numbers(window.embedding, request.encoding_format),
            "imagebind": {"input": window.number, "start": window.start, "end": window.end},
        }
        for index, window in enumerate(windows)
    ]
    return {"object": "list", "data": data, "model": request.model or name, "usage": USAGE}


def numbers(embedding: Vector, encoding_format: str) -> str | list[float]:
    """Format an embedding (D,) as a list of numbers, or as base64 of little-endian float32
    numbers.
    """
    little_endian = embedding.astype("<f4")
    if encoding_format == "base64":
        return base64.b64encode(little_endian.tobytes()).decode()
    values: list[float] = np.asarray(little_endian, np.float64).tolist()
    return values


def embedding_list(
    request: EmbeddingRequest,
    conditioned: Sequence[Conditioned],
    options: ImageBindOptions,
    name: str,
) -> Json:
    """OpenAI's list of embeddings."""
    data = []
    for index, item_conditioned in enumerate(conditioned):
        embedding = numbers(normalize(item_conditioned.embedding), request.encoding_format)
        item: Json = {"object": "embedding", "index": index, "embedding": embedding}
        if options.explain:
            item["imagebind"] = item_conditioned.explanation.model_dump()
        data.append(item)
    return {"object": "list", "data": data, "model": request.model or name, "usage": USAGE}
