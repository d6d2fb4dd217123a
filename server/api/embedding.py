"""Compute the embeddings of a request's inputs. Used by the routes that need no language model.

Shapes: N inputs, D embedding dimensions.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from fastapi import Request

from model_ext.conditioning import Vector
from server.api.body import Incoming
from server.api.inputs import sources_of
from server.api.state import AppState, state_of
from server.conditioning.conditioner import Conditioned
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions
from server.errors import BadRequest, NotFound, Unavailable
from server.media.attachments import Attachment, Part, read_attachments
from server.metrics import stage

# One request may embed this many inputs at a time, so that other requests can proceed.
MAX_CONCURRENT = 16


def check_model(model: str | None, state: AppState) -> None:
    """Raises NotFound: for another model. Raises Unavailable: when the server shuts down."""
    if state.engine_client.draining:
        raise Unavailable("the server is shutting down", code="draining")
    if model and not state.openai_serving_models.is_base_model(model):
        raise NotFound("the model does not exist", param="model", code="model_not_found")


async def embed_parts(
    inputs: Sequence[Sequence[Part]],
    options: ImageBindOptions,
    incoming: Incoming,
    raw_request: Request,
) -> list[Conditioned]:
    """Read the content parts of each input, and compute the mixed embedding of each input."""
    limits = state_of(raw_request).components.attachment_limits
    sources = sources_of(incoming, raw_request)

    def read() -> list[list[Attachment]]:
        return [read_attachments(parts, limits, sources) for parts in inputs]

    with stage("attachments"):
        attachments = await asyncio.to_thread(read)
    return await condition_all(attachments, options, raw_request)


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
        # Delete these variables, because they reference the error, whose traceback references the
        # files.
        del group, tasks
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def units(conditioned: Sequence[Conditioned]) -> Vector:
    """The unit embeddings (N, D)."""
    return normalize(np.stack([each.embedding for each in conditioned]))


def check_count(count: int, maximum: int, param: str) -> None:
    if not 1 <= count <= maximum:
        raise BadRequest(f"{param} must hold 1 to {maximum} items", param=param)
