"""/v1/chat/completions and /v1/completions. vLLM's handlers implement OpenAI's protocol.

These routes remove the attachments and the `imagebind` object from the JSON, compute the
conditioning embedding, and pass the rest to vLLM. A response header states whether the retrieval
cache was used.
"""

import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.entrypoints.serve.utils.sse_keep_alive import with_sse_keep_alive

from server.api.body import Incoming, Json, read_json, read_json_or_form, run
from server.api.components import Components
from server.api.embedding.cancellation import CLIENT_DISCONNECTED
from server.api.error_handlers import error_response, from_event, from_vllm_response
from server.api.grammar.constraint import check_constraints
from server.api.grounding.chat import ground_chat, ground_chunks
from server.api.grounding.ground import GROUND_HEADER, Grounding, fetches_of, read_grounding
from server.api.limits.texts import check_texts
from server.api.pictures.chat_images import last_user_text, take_modalities, with_images
from server.api.pictures.drawing import PictureRequest, picture_request
from server.api.prompt.input_slot import contexts_of, fill_input_slots
from server.api.prompt.inputs import (
    CACHE_HEADER,
    EXPERTS_HEADER,
    attachments_of,
    parse,
)
from server.api.prompt.tools import correct_finish_reasons, prepare_tools
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned
from server.conditioning.contexts import Contexts
from server.conditioning.fetches import Fetches
from server.conditioning.first_error import all_results
from server.conditioning.options import ImageBindOptions, take_options
from server.conditioning.turns import weigh_turns
from server.context import current
from server.errors import body
from server.media.attachments import (
    Attachment,
    list_parts,
    message_parts,
)

router = APIRouter()

ERROR_EVENT = 'data: {"error"'


@router.post("/v1/chat/completions")
async def create_chat_completion(raw_request: Request) -> Response:
    incoming = await read_json_or_form(raw_request)
    return await chat(incoming, raw_request) or Response(status_code=CLIENT_DISCONNECTED)


@router.post("/v1/completions")
async def create_completion(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await complete(incoming, raw_request) or Response(status_code=CLIENT_DISCONNECTED)


@with_cancellation  # cancels the request when the client disconnects
async def chat(incoming: Incoming, raw_request: Request) -> Response:
    with_image = take_modalities(incoming.document)
    options = take_options(
        incoming.document, picture=with_image, experts=True, turns=True, ground=True
    )
    await check_constraints(incoming.document, state_of(raw_request).grammars)
    messages = incoming.document.get("messages")
    attachments = await attachments_of(messages, message_parts, incoming, raw_request)
    contexts = await contexts_of(messages, "messages", incoming, raw_request)
    await prepare_tools(incoming.document, messages, attachments, contexts)
    request = await run(incoming.large, parse, ChatCompletionRequest, incoming.document)
    grounding = read_grounding(options, attachments, raw_request)
    pictures = None
    if with_image:
        pictures = picture_request(raw_request, options, last_user_text(messages), request.n, "n")
    conditioned = await apply_attachments(
        *(request.n, raw_request, attachments, options, contexts, pictures),
        fetches=fetches_of(grounding),
    )
    fill_input_slots(request, contexts, raw_request)
    if pictures is None:
        answer = await answer_of(request, raw_request)
        return await respond_grounded(answer, raw_request, conditioned, options, grounding)
    streamed = bool(request.stream)
    async with pictures.start(conditioned.picture, streamed=streamed) as drawing:
        answer = await with_images(await answer_of(request, raw_request), drawing)
        return await respond_grounded(answer, raw_request, conditioned, options, grounding)


async def answer_of(request: ChatCompletionRequest, raw_request: Request) -> Any:
    """Return vLLM's answer: an object, an error, or a stream of events."""
    answer = await state_of(raw_request).openai_serving_chat.create_chat_completion(
        request, raw_request
    )
    correct_finish_reasons(answer, request)
    return answer


@with_cancellation
async def complete(incoming: Incoming, raw_request: Request) -> Response:
    options = take_options(incoming.document)
    check_texts(incoming.document, state_of(raw_request).prompt_limits)
    await check_constraints(incoming.document, state_of(raw_request).grammars)
    attachments = await attachments_of(
        incoming.document.pop("attachments", []), list_parts, incoming, raw_request
    )
    request = await run(incoming.large, parse, CompletionRequest, incoming.document)
    conditioned = await apply_attachments(request.n, raw_request, attachments, options)
    handler = state_of(raw_request).openai_serving_completion
    answer = await handler.create_completion(request, raw_request)
    return respond(answer, raw_request, conditioned, options)


async def apply_attachments(
    n: int | None,
    raw_request: Request,
    attachments: list[Attachment],
    options: ImageBindOptions,
    contexts: Contexts | None = None,
    pictures: PictureRequest | None = None,
    fetches: Fetches | None = None,
) -> Conditioned:
    """Compute the attachments' embedding, which conditions everything that this request generates.
    The experts' texts go to `contexts`.

    `n`: the number of choices that the request asks for. `contexts`: the turns of a dialogue.
    `pictures`: the pictures of the answer, if it has any; the vector that conditions them is also
    computed. `fetches`: the request's downloads, if another component also needs them.
    Raises vLLM's error: when its queue is full.
    """
    state = state_of(raw_request)
    # Check vLLM's queue before the attachments are decoded and encoded.
    state.engine_client.check_admission(n or 1)
    counted = list(attachments)
    if contexts is not None:
        counted = weigh_turns(attachments, options.turns, contexts.turn_of, contexts.last)
    conditioned = await condition(
        *(state.components, attachments, counted, options, contexts, fetches),
        with_picture=pictures is not None,
    )
    if pictures is not None and not attachments:
        conditioned = await pictures.condition_on_text(
            state.components.conditioner, conditioned, options
        )
    attachments.clear()  # Close the attachments' files before the response is generated.
    current().condition_on(conditioned.embedding)
    return conditioned


async def condition(
    components: Components,
    attachments: list[Attachment],
    counted: list[Attachment],
    options: ImageBindOptions,
    contexts: Contexts | None,
    fetches: Fetches | None = None,
    *,
    with_picture: bool = False,
) -> Conditioned:
    """Embed the attachments `counted` and, at the same time, run the experts on all attachments."""
    conditioner, experts = components.conditioner, components.experts
    names = () if contexts is None else experts.chosen(options.experts)
    if contexts is None or not names or not attachments:
        return await conditioner.condition(counted, options, fetches, with_picture=with_picture)
    fetches = fetches or conditioner.fetches(attachments)
    work: list[Coroutine[Any, Any, Any]] = [
        conditioner.condition(counted, options, fetches, with_picture=with_picture),
        experts.read(attachments, names, fetches),
    ]
    try:
        conditioned, parts = await all_results(work)
    finally:
        # The traceback of an error references this frame, and would keep the files open.
        del fetches, work
    for part in parts:
        part.text = contexts.add(part.param, part.text)
    conditioned.explanation.experts = parts
    return conditioned


def headers_of(conditioned: Conditioned) -> dict[str, str]:
    """The response headers that state which parts of the server were used."""
    explanation = conditioned.explanation
    headers: dict[str, str] = {CACHE_HEADER: explanation.cache}
    # If an expert failed for any attachment, the expert's state is `unavailable`.
    states = {part.expert: part.state for part in explanation.experts}
    states |= {part.expert: part.state for part in explanation.experts if part.state != "on"}
    if states:
        headers[EXPERTS_HEADER] = ", ".join(f"{name}={state}" for name, state in states.items())
    return headers


async def respond_grounded(
    answer: Any,
    raw_request: Request,
    conditioned: Conditioned,
    options: ImageBindOptions,
    grounding: Grounding | None,
) -> Response:
    """Respond as `respond` does, and add the grounding of each choice to its message, or to the
    last chunk of a stream. `grounding`: None if the request does not ask for grounding.
    """
    if grounding is None or isinstance(answer, ErrorResponse):
        return respond(answer, raw_request, conditioned, options)
    if not isinstance(answer, BaseModel | dict):
        chunks = ground_chunks(answer, grounding, explain=options.explain)
        return respond(chunks, raw_request, conditioned, options)
    document = answer.model_dump() if isinstance(answer, BaseModel) else answer
    state = await ground_chat(document, grounding)
    explanation = {"grounding": grounding.explanation()}
    response = respond(document, raw_request, conditioned, options, explanation)
    response.headers[GROUND_HEADER] = state
    return response


def respond(
    answer: Any,
    raw_request: Request,
    conditioned: Conditioned,
    options: ImageBindOptions,
    explanation: Json | None = None,
) -> Response:
    """Convert vLLM's answer, or its JSON, to an HTTP response. With the option `explain`, the JSON
    or the first event of the stream has the additional key `imagebind`.

    `explanation`: more keys of the object `imagebind`.
    """
    if isinstance(answer, ErrorResponse):
        return error_response(from_vllm_response(answer))
    headers = headers_of(conditioned)
    extra = {}
    if options.explain:
        extra["imagebind"] = {**conditioned.explanation.model_dump(), **(explanation or {})}
    if isinstance(answer, BaseModel):
        answer = answer.model_dump()
    if isinstance(answer, dict):
        return JSONResponse({**answer, **extra}, headers=headers)
    interval = state_of(raw_request).args.sse_keep_alive_interval
    events = with_sse_keep_alive(with_first(answer, extra), float(interval))
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def with_first(events: AsyncGenerator[str], extra: Json) -> AsyncGenerator[str]:
    """Yield the stream's events, with `extra` added to the JSON of the first event. Converts vLLM's
    error events to OpenAI's format.

    Closing this generator closes `events`, which aborts the request in the engine.
    """
    async with aclosing(events):
        async for event in events:
            if event.startswith(ERROR_EVENT):
                event = f"data: {json.dumps(body(from_event(event)))}\n\n"
            elif extra and event.startswith("data: {"):
                event = f"data: {json.dumps({**json.loads(event[6:]), **extra})}\n\n"
                extra = {}
            yield event
