"""/v1/responses and /v1/messages: attachments condition the request, and vLLM receives only the
texts.
"""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse

from tests.server.api.exchanges import check_error
from tests.server.application import Served, serve

# The fake encoders embed the text "90" as the direction at 90 degrees.
NINETY = base64.b64encode(b"90").decode()
URL = f"data:image/png;base64,{NINETY}"
UP = [0.0, 1.0]


async def nothing() -> AsyncIterator[str]:
    for event in ():
        yield event


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve()
    served.handler.answer = nothing()
    async with served.client:
        yield served


def conditioned_on(served: Served) -> Any:
    return np.frombuffer(served.handler.embeddings[0], "<f4")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": URL},
        {"type": "input_file", "file_data": URL, "filename": "a.png", "modality": "image"},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "imagebind_text", "imagebind_text": {"text": "90"}},
    ],
    ids=lambda part: part["type"],
)
async def test_a_responses_request(served: Served, part: dict[str, Any]) -> None:
    content = [part, {"type": "input_text", "text": "What?"}]
    body = {"input": [{"role": "user", "content": content}], "model": "tiny", "stream": True}
    response = await served.client.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-bindserve-cache"] == "off"
    np.testing.assert_allclose(conditioned_on(served), UP, atol=1e-5)
    (request,) = served.handler.seen
    (item,) = request.input
    assert [part["type"] for part in item["content"]] == ["input_text"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "url", "url": URL}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": NINETY},
            "modality": "image",
        },
    ],
    ids=lambda block: block["source"]["type"],
)
async def test_a_messages_request(served: Served, block: dict[str, Any]) -> None:
    tools = [{"type": "tool_result", "tool_use_id": "t", "content": "4"}]
    content = [block, {"type": "text", "text": "What?"}, *tools]
    body = {
        **{"messages": [{"role": "user", "content": content}], "model": "tiny"},
        **{"max_tokens": 4, "stream": True},
    }
    response = await served.client.post("/v1/messages", json=body)
    assert response.status_code == 200, response.text
    np.testing.assert_allclose(conditioned_on(served), UP, atol=1e-5)
    (request,) = served.handler.seen
    assert [block.type for block in request.messages[0].content] == ["text", "tool_result"]


async def test_text_alone_stays_text_only(served: Served) -> None:
    body = {"input": "Hello", "model": "tiny", "stream": True}
    assert (await served.client.post("/v1/responses", json=body)).status_code == 200
    assert served.handler.embeddings == [served.components.text_only]


async def test_errors_have_openais_form_and_name_the_part(served: Served) -> None:
    part = {"type": "input_image", "image_url": "data:image/png;base64,eA=="}
    body: dict[str, Any] = {"input": [{"role": "user", "content": [part]}], "model": "tiny"}
    check_error(
        await served.client.post("/v1/responses", json=body), 400, param="input[0].content[0]"
    )
    body = {"input": "Hello", "imagebind": {"explain": True}}
    response = await served.client.post("/v1/responses", json=body)
    check_error(response, 400, param="imagebind.explain")
    info = ErrorInfo(message="no such model", type="NotFoundError", param="model", code=404)
    served.handler.answer = ErrorResponse(error=info)
    response = await served.client.post("/v1/responses", json={"input": "Hello", "model": "x"})
    check_error(response, 404, code="model_not_found")


class ErrorEvent(BaseModel):
    type: str = "error"
    message: str = "/secret/vllm/file.py: KeyError"


async def error_event(path: str) -> AsyncIterator[Any]:
    if path == "/v1/responses":
        yield ErrorEvent()
    else:
        error = {"type": "internal_error", "message": ErrorEvent().message}
        yield 'event: ping\ndata: {"type": "ping"}\n\n'
        yield f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_an_error_in_a_stream_shows_nothing_of_the_server(served: Served, path: str) -> None:
    served.handler.answer = error_event(path)
    body: dict[str, Any] = {"model": "tiny", "stream": True, "max_tokens": 4, "input": "Hello"}
    if path == "/v1/messages":
        body = body | {"messages": [{"role": "user", "content": "Hello"}]}
        del body["input"]
    else:
        del body["max_tokens"]
    response = await served.client.post(path, json=body)
    assert response.status_code == 200, response.text
    event = response.text.removesuffix("\n\n").rpartition("\n\n")[2]
    assert event.startswith("event: error\ndata: {")
    document = json.loads(event.partition("data: ")[2])
    assert document["type"] == "error"
    assert document.get("error", document)["message"] == "the request is not valid"
