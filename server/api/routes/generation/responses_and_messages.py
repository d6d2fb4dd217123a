"""OpenAI's /v1/responses and Anthropic's /v1/messages. vLLM's handlers implement both protocols.

The two protocols have different content parts for attachments. This module translates them to the
content parts of chat completions, and conditions the request as `generate.py` does.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from vllm.entrypoints.anthropic.api_router import count_tokens, create_messages
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.responses.api_router import create_responses
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from server.api.body import Incoming, Json, read_json, run
from server.api.embedding.cancellation import CLIENT_DISCONNECTED
from server.api.error_handlers import in_openai_form, stream_message
from server.api.grammar.constraint import check_constraints
from server.api.grounding.ground import read_grounding
from server.api.grounding.other_protocols import ground_response
from server.api.pictures.drawing import picture_request
from server.api.pictures.response_items import input_text, take_tool, with_item, with_size
from server.api.prompt.input_slot import contexts_of, fill_input_slots
from server.api.prompt.inputs import (
    attachments_of,
    parse,
)
from server.api.prompt.tools import prepare_tools
from server.api.routes.generation.generate import apply_attachments, headers_of
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned
from server.conditioning.contexts import Contexts
from server.conditioning.options import ImageBindOptions, take_options
from server.errors import BadRequest
from server.media.attachments import Attachment, Part, message_parts

router = APIRouter()

ERROR_EVENT = "event: error\n"

# Types of Anthropic's content blocks that are neither text nor attachments. vLLM reads them.
BLOCKS = frozenset(
    {
        *("tool_use", "tool_result", "tool_reference", "tool_addition", "tool_removal"),
        "redacted_thinking",
    }
)


@router.post("/v1/responses")
async def responses(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    response = await create_response(incoming, raw_request)
    return response or Response(status_code=CLIENT_DISCONNECTED)


@router.post("/v1/messages")
async def messages(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    response = await create_message(incoming, raw_request)
    return response or Response(status_code=CLIENT_DISCONNECTED)


@router.post("/v1/messages/count_tokens")
async def message_tokens(raw_request: Request) -> Response:
    """Count the tokens of the request's text. Attachments and experts add no tokens here."""
    incoming = await read_json(raw_request)
    take_options(incoming.document, experts=True, turns=True)
    attachments = await message_attachments(incoming, raw_request)
    messages = incoming.document.get("messages")
    contexts = await contexts_of(messages, "messages", incoming, raw_request)
    await prepare_tools(incoming.document, messages, attachments, contexts)
    request = await run(incoming.large, parse, AnthropicCountTokensRequest, incoming.document)
    fill_input_slots(request, contexts, raw_request)
    return in_openai_form(await count_tokens(request, raw_request))


@with_cancellation
async def create_response(incoming: Incoming, raw_request: Request) -> Response:
    tool = take_tool(incoming.document)
    options = with_size(options_of(incoming, picture=tool is not None), tool)
    await check_constraints(incoming.document, state_of(raw_request).grammars)
    attachments: list[Attachment] = []
    items = incoming.document.get("input")
    if isinstance(items, list):
        attachments = await attachments_of(items, item_parts, incoming, raw_request)
    contexts = await contexts_of(items, "input", incoming, raw_request)
    await prepare_tools(incoming.document, items, attachments, contexts)
    request = await run(incoming.large, parse, ResponsesRequest, incoming.document)
    grounding = read_grounding(options, attachments, raw_request)
    if tool is None:
        response = await call_handler(
            create_responses, request, raw_request, attachments, contexts, options
        )
        return await ground_response(response, grounding)
    pictures = picture_request(raw_request, options, input_text(items), 1)
    conditioned = await apply_attachments(1, raw_request, attachments, options, contexts, pictures)
    fill_input_slots(request, contexts, raw_request)
    streamed = bool(request.stream)
    async with pictures.start(conditioned.picture, streamed=streamed) as drawing:
        response = await finish(create_responses, request, raw_request, conditioned)
        return await ground_response(await with_item(response, drawing), grounding)


@with_cancellation
async def create_message(incoming: Incoming, raw_request: Request) -> Response:
    options = options_of(incoming)
    await check_constraints(incoming.document, state_of(raw_request).grammars)
    attachments = await message_attachments(incoming, raw_request)
    messages = incoming.document.get("messages")
    contexts = await contexts_of(messages, "messages", incoming, raw_request)
    await prepare_tools(incoming.document, messages, attachments, contexts)
    request = await run(incoming.large, parse, AnthropicMessagesRequest, incoming.document)
    grounding = read_grounding(options, attachments, raw_request)
    response = await call_handler(
        create_messages, request, raw_request, attachments, contexts, options
    )
    return await ground_response(response, grounding)


async def message_attachments(incoming: Incoming, raw_request: Request) -> list[Attachment]:
    messages = incoming.document.get("messages")
    return await attachments_of(messages, block_parts, incoming, raw_request)


async def call_handler(
    handler: Any,
    request: BaseModel,
    raw_request: Request,
    attachments: list[Attachment],
    contexts: Contexts,
    options: ImageBindOptions,
) -> Response:
    """Condition the request, fill its Input slots, and call vLLM's handler."""
    conditioned = await apply_attachments(1, raw_request, attachments, options, contexts)
    fill_input_slots(request, contexts, raw_request)
    return await finish(handler, request, raw_request, conditioned)


async def finish(
    handler: Any, request: BaseModel, raw_request: Request, conditioned: Conditioned
) -> Response:
    """Call vLLM's handler for a request that is conditioned."""
    response = in_openai_form(await handler(request, raw_request))
    response.headers.update(headers_of(conditioned))
    if isinstance(response, StreamingResponse):
        events = cast(AsyncGenerator[str], response.body_iterator)
        response.body_iterator = with_client_texts(events)
    return response


async def with_client_texts(events: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """Yield the stream's events. Removes the server's internals from the messages of vLLM's errors.

    Closing this generator closes `events`, which aborts the request in the engine.
    """
    async with aclosing(events):
        async for event in events:
            yield with_client_text(event) if event.startswith(ERROR_EVENT) else event


def with_client_text(event: str) -> str:
    """Remove the server's internals from an error event's message, which is in {"error":
    {"message"}} or in {"message"}.
    """
    name, _, data = event.partition("\ndata: ")
    document = json.loads(data)
    error = document.get("error")
    error = error if isinstance(error, dict) else document
    error["message"] = stream_message(str(error.get("message")))
    return f"{name}\ndata: {json.dumps(document)}\n\n"


def options_of(incoming: Incoming, *, picture: bool = False) -> ImageBindOptions:
    options = take_options(
        incoming.document, picture=picture, experts=True, turns=True, ground=True
    )
    if options.explain:
        raise BadRequest(
            "explain is available in chat completions, completions and embeddings only",
            param="imagebind.explain",
        )
    return options


def item_parts(items: Any) -> list[Part]:
    """Remove and return the attachments in the `input` of a Responses request. Texts stay in
    `input`.
    """
    translate(items, response_part)
    return message_parts(items, where="input")


def block_parts(messages: Any) -> list[Part]:
    """Remove and return the attachments in the `messages` of a Messages request. Texts and tools
    stay in `messages`.
    """
    translate(messages, block_part)
    return message_parts(messages, pass_on=BLOCKS)


def translate(items: Any, translate_part: Callable[[Json], Json]) -> None:
    """Replace each content part by the result of `translate_part`, in place."""
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("content"), list):
            item["content"] = [
                translate_part(part) if isinstance(part, dict) else part for part in item["content"]
            ]


def response_part(part: Json) -> Json:
    match part.get("type"):
        case "input_image" if part.get("file_id") is None:
            return {**part, "type": "image_url"}
        case "input_image" | "input_file":
            keys = ("file_id", "file_data", "filename")
            return {**part, "type": "file", "file": {key: part.get(key) for key in keys}}
    return part


def block_part(part: Json) -> Json:
    source = part.get("source")
    if part.get("type") not in ("image", "document") or not isinstance(source, dict):
        return part
    match source.get("type"):
        case "base64":
            return {**part, "type": "file", "file": {"file_data": source.get("data")}}
        case "url":
            return {**part, "type": "image_url", "image_url": {"url": source.get("url")}}
        case "file":
            return {**part, "type": "file", "file": {"file_id": source.get("file_id")}}
    return part
