"""/v1/embeddings in OpenAI's format: returns ImageBind's embeddings without using the LLM.

Each item of `input` is a string, a content part, or a list of parts, which are mixed. Each item
results in one embedding of length 1. The retrieval cache is used only if the request sets
`imagebind.cache`.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from server.api.body import Incoming, Json, read_json
from server.api.cancellation import unless_disconnected
from server.api.inputs import CACHE_HEADER, CLIENT_DISCONNECTED, parse, sources_of
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned, without_default_cache
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions, take_options
from server.errors import BadRequest, NotFound, Unavailable
from server.media.attachments import Attachment, AttachmentLimits, input_parts, read_attachments
from server.media.sources import Sources
from server.metrics import stage

router = APIRouter()

# One request may embed this many inputs at a time, so that other requests can proceed.
MAX_CONCURRENT = 16


class EmbeddingRequest(BaseModel):
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


@router.post("/v1/embeddings")
async def create_embeddings(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    work = respond_with_embeddings(incoming, raw_request)
    response = await unless_disconnected(work, raw_request)
    return response or Response(status_code=CLIENT_DISCONNECTED)


async def respond_with_embeddings(incoming: Incoming, raw_request: Request) -> Response:
    state = state_of(raw_request)
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    options = without_default_cache(take_options(incoming.document))
    request = parse(EmbeddingRequest, incoming.document)
    check(request, raw_request)
    arguments = (
        *(incoming.document.get("input"), state.settings.max_embedding_inputs),
        *(state.components.attachment_limits, sources_of(incoming, raw_request)),
    )
    with stage("attachments"):
        inputs = await asyncio.to_thread(read_inputs, *arguments)
    conditioned = await condition_all(inputs, options, raw_request)
    body = embedding_list(request, conditioned, options, state.settings.name)
    headers = {CACHE_HEADER: conditioned[0].explanation.cache}
    # A thread writes the JSON, because the response may have many numbers.
    return await asyncio.to_thread(JSONResponse, body, headers=headers)


def check(request: EmbeddingRequest, raw_request: Request) -> None:
    state = state_of(raw_request)
    if request.model and not state.openai_serving_models.is_base_model(request.model):
        raise NotFound("the model does not exist", param="model", code="model_not_found")
    dim = state.components.attachment_limits.embedding_dim
    if request.dimensions not in (None, dim):
        raise BadRequest(f"this model's embeddings have {dim} dimensions", param="dimensions")


def read_inputs(
    value: Any, max_inputs: int, limits: AttachmentLimits, sources: Sources
) -> list[list[Attachment]]:
    """Return the attachments of each input. Raises BadRequest, which names the wrong input."""
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= max_inputs:
        raise BadRequest(f"input must hold 1 to {max_inputs} items", param="input")
    inputs = []
    for index, item in enumerate(items):
        param = f"input[{index}]" if isinstance(value, list) else "input"
        inputs.append(read_attachments(input_parts(item, param), limits, sources))
    return inputs


async def condition_all(
    inputs: Sequence[list[Attachment]], options: ImageBindOptions, raw_request: Request
) -> list[Conditioned]:
    """Compute the embedding of each input. The first error cancels the other inputs."""
    conditioner = state_of(raw_request).components.conditioner
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)

    async def limited(attachments: list[Attachment]) -> Conditioned:
        async with semaphore:
            return await conditioner.condition(attachments, options)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(limited(attachments)) for attachments in inputs]
    except ExceptionGroup as failures:
        # Delete these variables: they reference the error, whose traceback would keep the
        # attachments' files open.
        del group, tasks
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def embedding_list(
    request: EmbeddingRequest,
    conditioned: Sequence[Conditioned],
    options: ImageBindOptions,
    name: str,
) -> Json:
    """OpenAI's list of embeddings."""
    data = []
    for index, item_conditioned in enumerate(conditioned):
        numbers = normalize(item_conditioned.embedding).astype("<f4")
        embedding = (
            base64.b64encode(numbers.tobytes()).decode()
            if request.encoding_format == "base64"
            else np.asarray(numbers, np.float64).tolist()
        )
        item = {"object": "embedding", "index": index, "embedding": embedding}
        if options.explain:
            item["imagebind"] = item_conditioned.explanation.model_dump()
        data.append(item)
    usage = {"prompt_tokens": 0, "total_tokens": 0}  # the LLM processes no tokens
    return {"object": "list", "data": data, "model": request.model or name, "usage": usage}
