"""The routes that take attachments: chat and completions. vLLM's handlers speak the protocol.

Takes our extensions out of the JSON, conditions the request, and hands the rest to vLLM, whose
answer (JSON or a stream) goes back with the state of the cache in a header.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive

from server.api import error_handlers
from server.api.body import Incoming, Json, read_json, read_json_or_form
from server.api.error_handlers import from_vllm_response
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned
from server.conditioning.options import ImageBindOptions, take_options
from server.context import current
from server.errors import BadRequest
from server.media.attachments import (
    Attachment,
    AttachmentLimits,
    take_from_list,
    take_from_messages,
)
from server.media.sources import Sources
from server.metrics import stage

Model = TypeVar("Model", bound=BaseModel)

router = APIRouter()

CACHE_HEADER = "x-bindserve-cache"
CLIENT_LEFT = 499  # nobody reads it; the access log does


@router.post("/v1/chat/completions")
async def create_chat_completion(raw_request: Request) -> Response:
    incoming = await read_json_or_form(raw_request)
    return await chat(incoming, raw_request) or Response(status_code=CLIENT_LEFT)


@router.post("/v1/completions")
async def create_completion(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await complete(incoming, raw_request) or Response(status_code=CLIENT_LEFT)


@with_cancellation  # a client that leaves cancels every stage
async def chat(incoming: Incoming, raw_request: Request) -> Response:
    options = take_options(incoming.document)
    attachments = await take(incoming, raw_request, take_from_messages, "messages")
    request = parse(ChatCompletionRequest, incoming.document)
    conditioned = await condition(request.n, raw_request, attachments, options)
    handler = state_of(raw_request).openai_serving_chat
    answer = await handler.create_chat_completion(request, raw_request)
    return respond(answer, raw_request, conditioned, options)


@with_cancellation
async def complete(incoming: Incoming, raw_request: Request) -> Response:
    options = take_options(incoming.document)
    parts = {"attachments": incoming.document.pop("attachments", [])}
    attachments = await take(
        Incoming(parts, large=incoming.large), raw_request, take_from_list, "attachments"
    )
    request = parse(CompletionRequest, incoming.document)
    conditioned = await condition(request.n, raw_request, attachments, options)
    handler = state_of(raw_request).openai_serving_completion
    answer = await handler.create_completion(request, raw_request)
    return respond(answer, raw_request, conditioned, options)


Take = Callable[[Any, AttachmentLimits, Sources], list[Attachment]]


async def take(incoming: Incoming, raw_request: Request, read: Take, key: str) -> list[Attachment]:
    """The attachments of the document's `key`, which may refer to files and uploads."""
    state = state_of(raw_request)
    sources = Sources(
        incoming.take_uploads(),
        state.components.files.of(current().key_salt),
        urls=state.settings.allow_media_urls,
    )
    arguments = (incoming.document.get(key), state.components.attachment_limits, sources)
    with stage("attachments"):
        if incoming.large:  # much base64
            return await asyncio.to_thread(read, *arguments)
        return read(*arguments)


def parse(model: type[Model], document: Json) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None
    except (AttributeError, TypeError, LookupError):  # vLLM's validators look into what they get
        raise BadRequest("a field of the request is of the wrong type") from None


async def condition(
    n: int | None,
    raw_request: Request,
    attachments: list[Attachment],
    options: ImageBindOptions,
) -> Conditioned:
    """From here on, whatever this request generates is conditioned on its attachments."""
    state = state_of(raw_request)
    state.engine_client.check_admission(n or 1)  # full means no before the work, too
    conditioned: Conditioned = await state.components.conditioner.condition(attachments, options)
    attachments.clear()  # their files are not needed while the answer is written
    current().condition_on(conditioned.embedding)
    return conditioned


def respond(
    answer: Any, raw_request: Request, conditioned: Conditioned, options: ImageBindOptions
) -> Response:
    """vLLM's answer as it is; `explain` adds one key, `imagebind`, to the JSON or first event."""
    if isinstance(answer, ErrorResponse):  # not raised: nobody may be waiting any more
        return error_handlers.respond(from_vllm_response(answer))
    headers = {CACHE_HEADER: conditioned.explanation.cache}
    extra = {"imagebind": conditioned.explanation.model_dump()} if options.explain else {}
    if isinstance(answer, BaseModel):
        return JSONResponse({**answer.model_dump(), **extra}, headers=headers)
    interval = state_of(raw_request).args.sse_keep_alive_interval
    events = with_sse_keep_alive(with_first(answer, extra), float(interval))
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def with_first(events: AsyncGenerator[str], extra: Json) -> AsyncGenerator[str]:
    """Add `extra` to the JSON of the first event. Closing this closes `events`: it aborts."""
    async with aclosing(events):
        async for event in events:
            if extra and event.startswith("data: {"):
                event = f"data: {json.dumps({**json.loads(event[6:]), **extra})}\n\n"
                extra = {}
            yield event
