"""Pictures in answers of /v1/responses: the tool `image_generation`."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from vllm.entrypoints.openai.responses.protocol import ResponsesResponse

from server.api.pictures.chat_images import with_images
from server.api.pictures.drawing import Drawing
from server.api.pictures.response_items import stream_item, take_tool, with_item
from server.errors import BadRequest, Unavailable
from tests.server.api.exchanges import check_error
from tests.server.api.pictures.conftest import Recorder
from tests.server.application import Served, serve

TOOL = {"type": "image_generation"}


def test_the_tool_is_removed() -> None:
    other = {"type": "function", "name": "f"}
    document: dict[str, Any] = {"tools": [other, TOOL], "tool_choice": TOOL}
    assert take_tool(document) == TOOL
    assert document == {"tools": [other]}
    document = {"tools": [TOOL], "tool_choice": "auto", "input": "x"}
    assert take_tool(document) == TOOL
    assert document == {"input": "x"}
    for untouched in ({"tools": [other]}, {"tools": "x"}, {}):
        kept = dict(untouched)
        assert take_tool(untouched) is None  # type: ignore[arg-type]
        assert untouched == kept
    with pytest.raises(BadRequest):
        take_tool({"tools": [TOOL, TOOL]})


def event(name: str, **data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


async def stream() -> AsyncIterator[str]:
    yield event("response.created", sequence_number=0)
    yield event("response.completed", sequence_number=1, response={"output": [{"type": "message"}]})


async def picture() -> list[bytes]:
    return [b"png"]


async def failure() -> list[bytes]:
    raise Unavailable("the side model is being started")


async def test_the_item_comes_before_the_last_event() -> None:
    texts = [text async for text in stream_item(stream(), Drawing(picture))]  # type: ignore[arg-type]
    data = [json.loads(text.partition("data: ")[2]) for text in texts]
    assert [each["type"] for each in data] == [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ]
    assert [each["sequence_number"] for each in data] == [0, 1, 2, 3]
    item = data[2]["item"]
    assert (item["type"], item["status"]) == ("image_generation_call", "completed")
    assert base64.b64decode(item["result"]) == b"png"
    assert data[1]["item"]["id"] == item["id"]
    assert data[3]["response"]["output"] == [{"type": "message"}, item]
    assert data[2]["output_index"] == 1


async def test_a_stream_that_never_starts_draws_nothing() -> None:
    """The client leaves before the first event, so nothing runs or closes the generator."""
    begun = []

    async def draw() -> list[bytes]:
        begun.append("picture")
        return [b"png"]

    async with Drawing(draw, streamed=True) as drawing:
        response = await with_item(StreamingResponse(stream()), drawing)
        chunks = await with_images(stream(), drawing)
    await asyncio.sleep(0.01)
    assert not begun
    del response, chunks


async def test_a_picture_that_failed_has_this_status() -> None:
    texts = [text async for text in stream_item(stream(), Drawing(failure))]  # type: ignore[arg-type]
    item = json.loads(texts[-1].partition("data: ")[2])["response"]["output"][1]
    assert (item["status"], item["result"]) == ("failed", None)


class Event(BaseModel):
    type: str
    sequence_number: int
    response: dict[str, Any] = {}


async def handler_events() -> AsyncIterator[Event]:
    yield Event(type="response.created", sequence_number=0)
    yield Event(type="response.completed", sequence_number=1, response={"output": []})


BODY = {"model": "tiny", "input": "90", "tools": [{**TOOL, "size": "32x16"}], "tool_choice": TOOL}


async def test_a_request_gets_the_picture(drawing: Served, recorder: Recorder) -> None:
    drawing.handler.answer = ResponsesResponse.model_construct(output=[])
    response = await drawing.client.post("/v1/responses", json=BODY)
    assert response.status_code == 200, response.text
    (item,) = response.json()["output"]
    assert (item["type"], item["status"]) == ("image_generation_call", "completed")
    assert base64.b64decode(item["result"]).startswith(b"\x89PNG")
    assert recorder.conditions == [[0, 3]]
    assert (recorder.documents[0]["width"], recorder.documents[0]["height"]) == (32, 16)
    (request,) = drawing.handler.seen
    assert not request.tools
    assert request.tool_choice != TOOL

    drawing.handler.answer = handler_events()
    response = await drawing.client.post("/v1/responses", json={**BODY, "stream": True})
    assert response.headers["x-bindserve-cache"] == "off"
    assert response.text.count("event: ") == 4
    last = json.loads(response.text.strip().rpartition("data: ")[2])
    assert last["response"]["output"][0]["status"] == "completed"


async def test_bad_requests_are_named(drawing: Served) -> None:
    for fields, param in (
        ({"tools": [{**TOOL, "size": "9x9"}]}, "imagebind.picture.size"),
        ({"imagebind": {"picture": {"steps": 1000}}}, "imagebind.picture.steps"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [], "imagebind": {"picture": {}}}, "imagebind.picture"),
    ):
        response = await drawing.client.post("/v1/responses", json={**BODY, **fields})
        check_error(response, 400, param=param)
    served = serve()
    async with served.client:
        check_error(await served.client.post("/v1/responses", json=BODY), 400, code="no_decoder")
