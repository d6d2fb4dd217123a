"""Add grounding to the answers of OpenAI's Responses and of Anthropic's Messages."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from fastapi.responses import JSONResponse, Response, StreamingResponse

from server.api.body import Json
from server.api.grounding.chat import state_of_results
from server.api.grounding.ground import GROUND_HEADER, Grounding

COMPLETED = "response.completed"  # The last event of a Responses stream.
STOP = "message_stop"  # The last event of a Messages stream.
TEXT_DELTA = "content_block_delta"


async def ground_response(response: Response, grounding: Grounding | None) -> Response:
    """Add grounding to vLLM's response, which is JSON or a stream of events. Errors are returned
    unchanged. `grounding`: None if the request does not ask for grounding.
    """
    if grounding is None:
        return response
    if isinstance(response, StreamingResponse):
        events = cast(AsyncGenerator[str], response.body_iterator)
        response.body_iterator = ground_events(events, grounding)
        return response
    if response.status_code != 200:
        return response
    document = json.loads(bytes(response.body))
    results = await ground_document(document, grounding)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return JSONResponse(document, headers={**headers, GROUND_HEADER: state_of_results(results)})


async def ground_document(document: Json, grounding: Grounding) -> list[list[Json] | None]:
    """Set `grounding`, in place, in each message of a Responses `output`, or in a Messages
    response.

    The spans in a Responses message are positions in the concatenation of its texts.
    """
    if document.get("object") == "response":
        messages = [each for each in document["output"] if each.get("type") == "message"]
    else:
        messages = [document]
    results = await grounding.of_texts([text_of(message) for message in messages])
    for message, result in zip(messages, results, strict=True):
        message["grounding"] = result
    return results


def text_of(message: Json) -> str:
    parts = message.get("content") or []
    return "".join(part["text"] for part in parts if part.get("type") in ("output_text", "text"))


async def ground_events(events: AsyncGenerator[str], grounding: Grounding) -> AsyncGenerator[str]:
    """Yield the events. The last event has the grounding: `response.output[].grounding` in
    `response.completed`, or `grounding` in `message_stop`.

    Closing this generator closes `events`.
    """
    text = ""
    async with aclosing(events):
        async for event in events:
            name, _, data = event.partition("\ndata: ")
            kind = name.removeprefix("event: ")
            if kind == TEXT_DELTA:
                text += json.loads(data).get("delta", {}).get("text") or ""
            elif kind == COMPLETED:
                document = json.loads(data)
                await ground_document(document["response"], grounding)
                event = f"{name}\ndata: {json.dumps(document)}\n\n"
            elif kind == STOP:
                (result,) = await grounding.of_texts([text])
                document = {**json.loads(data), "grounding": result}
                event = f"{name}\ndata: {json.dumps(document)}\n\n"
            yield event
