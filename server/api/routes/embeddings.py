"""/v1/embeddings, in OpenAI's shape, for every modality: ImageBind's own space, no language model.

Each item of `input` gives one embedding of unit length: a string, a content part, or a list of
parts, which are mixed. The cache is used only if `imagebind.cache` asks for it.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from server.api.body import Incoming, Json, read_json
from server.api.routes.generate import CACHE_HEADER, CLIENT_LEFT, parse
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned, without_default_cache
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions, take_options
from server.context import current
from server.errors import BadRequest, NotFound, Unavailable
from server.media.attachments import Attachment, AttachmentLimits, take_from_input
from server.media.sources import Sources
from server.metrics import stage

router = APIRouter()

AT_ONCE = 16  # inputs of one request that are worked on at a time; others get their turn


class EmbeddingRequest(BaseModel):
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


@router.post("/v1/embeddings")
async def create_embeddings(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await embed(incoming, raw_request) or Response(status_code=CLIENT_LEFT)


@with_cancellation
async def embed(incoming: Incoming, raw_request: Request) -> Response:
    state = state_of(raw_request)
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    options = without_default_cache(take_options(incoming.document))
    request = parse(EmbeddingRequest, incoming.document)
    check(request, raw_request)
    sources = Sources(
        files=state.components.files.of(current().key_salt), urls=state.settings.allow_media_urls
    )
    arguments = (
        *(incoming.document.get("input"), state.settings.max_embedding_inputs),
        *(state.components.attachment_limits, sources),
    )
    with stage("attachments"):
        inputs = await asyncio.to_thread(read_inputs, *arguments)
    found = await embed_all(inputs, options, raw_request)
    body = answer(request, found, options, state.settings.name)
    headers = {CACHE_HEADER: found[0].explanation.cache}
    return await asyncio.to_thread(JSONResponse, body, headers=headers)  # many numbers to write


def check(request: EmbeddingRequest, raw_request: Request) -> None:
    state = state_of(raw_request)
    if request.model and not state.openai_serving_models.is_base_model(request.model):
        raise NotFound("the model does not exist", param="model", code="model_not_found")
    dim = state.components.attachment_limits.embedding_dim
    if request.dimensions not in (None, dim):
        raise BadRequest(f"this model's embeddings have {dim} dimensions", param="dimensions")


def read_inputs(
    value: Any, most: int, limits: AttachmentLimits, sources: Sources
) -> list[list[Attachment]]:
    """The attachments of each input. BadRequest names the item."""
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= most:
        raise BadRequest(f"input holds 1 to {most} items", param="input")
    inputs = []
    for index, item in enumerate(items):
        param = f"input[{index}]" if isinstance(value, list) else "input"
        inputs.append(take_from_input(item, param, limits, sources))
    return inputs


async def embed_all(
    inputs: Sequence[list[Attachment]], options: ImageBindOptions, raw_request: Request
) -> list[Conditioned]:
    """The first failure stops the others."""
    conditioner, turn = state_of(raw_request).components.conditioner, asyncio.Semaphore(AT_ONCE)

    async def one(attachments: list[Attachment]) -> Conditioned:
        async with turn:
            found: Conditioned = await conditioner.condition(attachments, options)
            return found

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in inputs]
    except ExceptionGroup as failures:
        del group, tasks  # they hold the error, whose traceback holds the files
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def answer(
    request: EmbeddingRequest, found: Sequence[Conditioned], options: ImageBindOptions, name: str
) -> Json:
    data = []
    for index, conditioned in enumerate(found):
        numbers = normalize(conditioned.embedding).astype("<f4")
        embedding = (
            base64.b64encode(numbers.tobytes()).decode()
            if request.encoding_format == "base64"
            else np.asarray(numbers, np.float64).tolist()
        )
        item = {"object": "embedding", "index": index, "embedding": embedding}
        if options.explain:
            item["imagebind"] = conditioned.explanation.model_dump()
        data.append(item)
    usage = {"prompt_tokens": 0, "total_tokens": 0}  # no token of the language model
    return {"object": "list", "data": data, "model": request.model or name, "usage": usage}
