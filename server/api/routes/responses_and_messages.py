"""The Responses and the Messages shape: their content parts become ours, vLLM does the rest.

OpenAI's /v1/responses and Anthropic's /v1/messages name attachments differently. Both are read here
into the same attachments, and condition the answer in the same way.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel
from vllm.entrypoints.anthropic.api_router import count_tokens, create_messages
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.responses.api_router import create_responses
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from server.api.body import Incoming, Json, read_json
from server.api.error_handlers import in_openai_form
from server.api.routes.generate import CACHE_HEADER, CLIENT_LEFT, condition, parse, take
from server.conditioning.options import ImageBindOptions, take_options
from server.errors import BadRequest
from server.media.attachments import Attachment, AttachmentLimits, take_from_messages
from server.media.sources import Sources

router = APIRouter()

# Blocks of Anthropic's that are neither text nor attachments: vLLM's business.
BLOCKS = frozenset(
    {
        *("tool_use", "tool_result", "tool_reference", "tool_addition", "tool_removal"),
        "redacted_thinking",
    }
)


@router.post("/v1/responses")
async def responses(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond(incoming, raw_request) or Response(status_code=CLIENT_LEFT)


@router.post("/v1/messages")
async def messages(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await message(incoming, raw_request) or Response(status_code=CLIENT_LEFT)


@router.post("/v1/messages/count_tokens")
async def message_tokens(raw_request: Request) -> Response:
    """An attachment is no token: only the text counts."""
    incoming = await read_json(raw_request)
    take_options(incoming.document)
    await take(incoming, raw_request, take_blocks, "messages")
    request = parse(AnthropicCountTokensRequest, incoming.document)
    return in_openai_form(await count_tokens(request, raw_request))


@with_cancellation
async def respond(incoming: Incoming, raw_request: Request) -> Response:
    options = options_of(incoming)
    attachments = []
    if isinstance(incoming.document.get("input"), list):
        attachments = await take(incoming, raw_request, take_items, "input")
    request = parse(ResponsesRequest, incoming.document)
    return await conditioned(request, create_responses, raw_request, attachments, options)


@with_cancellation
async def message(incoming: Incoming, raw_request: Request) -> Response:
    options = options_of(incoming)
    attachments = await take(incoming, raw_request, take_blocks, "messages")
    request = parse(AnthropicMessagesRequest, incoming.document)
    return await conditioned(request, create_messages, raw_request, attachments, options)


async def conditioned(
    request: BaseModel,
    create: Any,
    raw_request: Request,
    attachments: list[Attachment],
    options: ImageBindOptions,
) -> Response:
    found = await condition(1, raw_request, attachments, options)
    answer = in_openai_form(await create(request, raw_request))
    answer.headers[CACHE_HEADER] = found.explanation.cache
    return answer


def options_of(incoming: Incoming) -> ImageBindOptions:
    options = take_options(incoming.document)
    if options.explain:
        raise BadRequest(
            "explain is told by /v1/chat/completions, /v1/completions and /v1/embeddings",
            param="imagebind.explain",
        )
    return options


def take_items(items: Any, limits: AttachmentLimits, sources: Sources) -> list[Attachment]:
    """The attachments of a Responses request's `input`, which keeps its texts."""
    translate(items, response_part)
    return take_from_messages(items, limits, sources, where="input")


def take_blocks(found: Any, limits: AttachmentLimits, sources: Sources) -> list[Attachment]:
    """The attachments of a Messages request's `messages`, which keep their texts and tools."""
    translate(found, block_part)
    return take_from_messages(found, limits, sources, pass_on=BLOCKS)


def translate(items: Any, into: Any) -> None:
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("content"), list):
            item["content"] = [
                into(part) if isinstance(part, dict) else part for part in item["content"]
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
