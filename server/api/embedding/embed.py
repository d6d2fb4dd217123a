"""Compute the embeddings of a request's inputs. Used by the routes that need no language model.

Shapes: N inputs, D embedding dimensions.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
from fastapi import Request

from model_ext.conditioning import Vector
from server.api.body import Incoming
from server.api.prompt.inputs import sources_of
from server.api.state import AppState, state_of
from server.conditioning.conditioner import Conditioned
from server.conditioning.first_error import all_results
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions, WindowOptions
from server.encoding.in_order import in_order
from server.encoding.windows import Window
from server.errors import BadRequest, NotFound, RequestError, Unavailable
from server.media.attachments import Attachment, Part, read_attachments
from server.metrics import stage

# Maximum inputs of one request that are embedded at a time, so that other requests can proceed.
MAX_CONCURRENT = 16
# The same for the windows of a video. Their frames are not compressed, so they need more memory.
MAX_VIDEOS = 4
WINDOWED = ("audio", "video")  # The modalities that are cut into windows.


@dataclass(frozen=True, slots=True)
class WindowEmbedding:
    """The unit embedding (D,) of one window. `number`: the index of the file among the request's
    inputs. `start` and `end`: seconds from the start of the file.
    """

    embedding: Vector
    number: int
    start: float
    end: float


def check_model(model: str | None, state: AppState) -> None:
    """Check the model's name in a request.

    Raises NotFound: when the server has no model of this name.
    Raises Unavailable: when the server shuts down.
    """
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


async def embed_windows(
    inputs: Sequence[Sequence[Part]],
    options: WindowOptions,
    incoming: Incoming,
    raw_request: Request,
) -> list[WindowEmbedding]:
    """Embed each file in windows. Each input must be one sound or one video.

    Raises BadRequest: for another modality, or when the request has too many windows.
    """
    state = state_of(raw_request)
    limits, settings = state.components.attachment_limits, state.settings
    max_bytes = settings.max_window_file_bytes
    larger = replace(limits.media, audio_bytes=max_bytes, video_bytes=max_bytes)
    limits, sources = replace(limits, media=larger), sources_of(incoming, raw_request)

    def read() -> list[Attachment]:
        attachments = [read_attachments(parts, limits, sources) for parts in inputs]
        for parts, each in zip(inputs, attachments, strict=True):
            if len(each) != 1 or each[0].modality not in WINDOWED:
                raise BadRequest(
                    "windows need one sound or one video in each input", param=parts[0].param
                )
        return [each[0] for each in attachments]

    with stage("attachments"):
        attachments = await asyncio.to_thread(read)
    embeddings: list[WindowEmbedding] = []
    for number, attachment in enumerate(attachments):
        with stage("windows", attachment.modality):
            embeddings += await windows_of(number, attachment, options, state)
        if len(embeddings) > settings.max_windows:
            raise BadRequest(
                f"more than {settings.max_windows} windows in one request",
                param="imagebind.windows",
            )
    return embeddings


async def windows_of(
    number: int, attachment: Attachment, options: WindowOptions, state: AppState
) -> list[WindowEmbedding]:
    """Embed the windows of one file, at most MAX_CONCURRENT at a time (MAX_VIDEOS of a video).

    `number`: the index of the file among the request's inputs.
    """
    components = state.components
    stride = options.stride or options.seconds

    async def embed(window: Window) -> Vector:
        part = replace(attachment, modality=window.modality, source=window.content, weight=1.0)
        return await components.conditioner.embed_unit(part)

    try:
        content = await components.conditioner.fetch(attachment)
        modality = attachment.modality
        windows = components.cutter.cut(content, options.seconds, stride, modality)
        concurrent = MAX_VIDEOS if modality == "video" else MAX_CONCURRENT
        async with aclosing(in_order(windows, embed, concurrent)) as embedded:
            return [
                WindowEmbedding(unit, number, window.start, window.end)
                async for window, unit in embedded
            ]
    except RequestError as error:
        param = error.param or attachment.param
        raise type(error)(error.message, param=param, code=error.code) from None


async def condition_all(
    inputs: Sequence[list[Attachment]], options: ImageBindOptions, raw_request: Request
) -> list[Conditioned]:
    """Compute the embedding of each input. The first error cancels the other inputs."""
    conditioner = state_of(raw_request).components.conditioner
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)

    async def limited(attachments: list[Attachment]) -> Conditioned:
        async with semaphore:
            return await conditioner.condition(attachments, options)

    return await all_results(limited(attachments) for attachments in inputs)


def units(conditioned: Sequence[Conditioned]) -> Vector:
    """Return the embeddings as one array (N, D). Each row has length 1."""
    return normalize(np.stack([each.embedding for each in conditioned]))


def check_count(count: int, maximum: int, param: str) -> None:
    if not 1 <= count <= maximum:
        raise BadRequest(f"{param} must hold 1 to {maximum} items", param=param)
