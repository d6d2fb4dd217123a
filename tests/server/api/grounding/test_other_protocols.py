"""Grounding in Responses and Messages, streamed or not."""

import json
from typing import Any

import pytest

from tests.server.api.grounding.colors import part, picture
from tests.server.api.grounding.grounded import RED, events
from tests.server.application import Served

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")


RESPONSE = {
    "object": "response",
    "output": [
        {"type": "reasoning", "content": None},
        {"type": "message", "content": [{"type": "output_text", "text": "A red car."}]},
    ],
}


async def test_responses_and_messages_have_the_grounding(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.responses import JSONResponse, StreamingResponse

    from server.api.routes.generation import responses_and_messages as routes

    completed = {"type": "response.completed", "response": RESPONSE}
    message = {"type": "message", "content": [{"type": "text", "text": "A red car."}]}
    block = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "A red car."}}
    cases = (
        ("create_responses", "/v1/responses", RESPONSE, ("response.completed", completed)),
        ("create_messages", "/v1/messages", message, ("message_stop", {"type": "message_stop"})),
    )
    for name, path, document, (event, last) in cases:
        red = part(picture(("red", RED)))
        fields = {"imagebind": {"ground": True}, "model": "tiny", "max_tokens": 9}
        turn = [{"role": "user", "content": [red, {"type": "text", "text": "What?"}]}]
        body = {**fields, "input": turn, "messages": turn}
        for stream in (False, True):

            async def handler(
                *_: Any,
                stream: bool = stream,
                document: Any = document,
                event: str = event,
                last: Any = last,
            ) -> Any:
                if not stream:
                    return JSONResponse(document)
                start = f"event: content_block_delta\ndata: {json.dumps(block)}\n\n"
                return StreamingResponse(
                    events(start, f"event: {event}\ndata: {json.dumps(last)}\n\n"),
                    media_type="text/event-stream",
                )

            monkeypatch.setattr(routes, name, handler)
            response = await served.client.post(path, json=body)
            assert response.status_code == 200, response.text
            assert response.headers["x-bindserve-cache"] == "off"
            result = (
                json.loads(response.text.strip().rsplit("data: ", 1)[1])
                if stream
                else response.json()
            )
            result = result.get("response", result)
            owner = result["output"][1] if "output" in result else result
            (item,) = owner["grounding"]
            assert (item["noun"], item["span"], item["found"]) == ("red car", [2, 9], True)
