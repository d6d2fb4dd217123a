"""Pictures in chat answers: `modalities: ["text", "image"]`."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.server.api.exchanges import CHAT, check_error, image
from tests.server.api.pictures.conftest import Recorder
from tests.server.application import Served, serve

TEXT = [{"role": "user", "content": [{"type": "text", "text": "90"}]}]
BODY = {"model": "tiny", "messages": TEXT, "modalities": ["text", "image"]}


def png(part: dict[str, Any]) -> bytes:
    assert part["type"] == "image_url"
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(data)


async def test_the_picture_follows_the_text(drawing: Served, recorder: Recorder) -> None:
    response = await drawing.client.post(CHAT, json=BODY)
    assert response.status_code == 200, response.text
    message = response.json()["choices"][0]["message"]
    assert message["content"] == "Hi"
    assert png(message["images"][0]).startswith(b"\x89PNG")
    assert "images_error" not in response.json()
    assert recorder.conditions == [[0, 3]]  # the embedding of the text
    # The answer's text is conditioned in the same way as without a picture, and vLLM's request has
    # no fields for pictures.
    assert np.frombuffer(drawing.handler.embeddings[0], "<f4").tolist() == [1, 0]
    assert "modalities" not in (drawing.handler.seen[0].model_extra or {})


async def test_attachments_condition_text_and_picture(drawing: Served, recorder: Recorder) -> None:
    content = [image(0), {"type": "text", "text": "Draw it"}]
    picture = {"size": "32x16", "steps": 3, "seed": 4}
    body = {**BODY, "messages": [{"role": "user", "content": content}]}
    response = await drawing.client.post(CHAT, json={**body, "imagebind": {"picture": picture}})
    assert response.status_code == 200, response.text
    assert recorder.conditions == [[3, 0]]
    document = recorder.documents[0]
    assert (document["prompt"], document["width"], document["height"]) == ("Draw it", 32, 16)
    assert (document["steps"], document["seed"]) == (3, 4)


async def events(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield f"data: {text}\n\n"


def delta(**choice: Any) -> str:
    head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 5, "model": "tiny"}
    choices = [{"index": 0, **choice}] if choice else []
    return json.dumps({**head, "choices": choices}, separators=(",", ":"))


@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_has_the_picture_after_the_text(drawing: Served, usage: bool) -> None:
    last = [delta()] if usage else []
    drawing.handler.answer = events(
        delta(delta={"content": "Hi"}), delta(delta={}, finish_reason="stop"), *last, "[DONE]"
    )
    response = await drawing.client.post(CHAT, json={**BODY, "stream": True})
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [bool(chunk["choices"]) for chunk in chunks] == [True] * 3 + [False] * usage
    (choice,) = chunks[2]["choices"]
    assert png(choice["delta"]["images"][0]).startswith(b"\x89PNG")


async def test_if_drawing_fails_the_text_stands(drawing: Served, recorder: Recorder) -> None:
    recorder.error = RuntimeError("secret")
    response = await drawing.client.post(CHAT, json=BODY)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Hi"
    assert "images" not in response.json()["choices"][0]["message"]
    error = response.json()["images_error"]
    assert error["type"]
    assert "secret" not in response.text
    drawing.handler.answer = events(delta(delta={"content": "Hi"}), "[DONE]")
    response = await drawing.client.post(CHAT, json={**BODY, "stream": True})
    assert '"content":"Hi"' in response.text
    assert response.text.endswith("data: [DONE]\n\n")
    assert "images_error" in response.text


async def test_an_error_of_the_text_is_the_answer(drawing: Served) -> None:
    drawing.handler.answer = ValueError("bad prompt")
    response = await drawing.client.post(CHAT, json=BODY)
    assert response.status_code >= 400
    assert "images" not in response.text
    drawing.handler.answer = events('{"error": {"message": "x", "code": 500}}', "[DONE]")
    response = await drawing.client.post(CHAT, json={**BODY, "stream": True})
    assert "images" not in response.text
    assert "error" in response.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["image"]}, "modalities"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"modalities": "image"}, "modalities"),
        ({"modalities": [["text"]]}, "modalities"),
        ({"n": 5}, "n"),
        ({"imagebind": {"picture": {"steps": 500}}}, "imagebind.picture.steps"),
        ({"imagebind": {"picture": {"size": "big"}}}, "imagebind.picture.size"),
        ({"imagebind": {"picture": {"style": 1}}}, "imagebind.picture.style"),
        ({"modalities": ["text"], "imagebind": {"picture": {}}}, "imagebind.picture"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ],
)
async def test_bad_fields_are_named(drawing: Served, fields: dict[str, Any], param: str) -> None:
    check_error(await drawing.client.post(CHAT, json={**BODY, **fields}), 400, param=param)
    assert not drawing.handler.seen


async def test_a_text_alone_needs_no_decoder() -> None:
    served = serve()
    async with served.client:
        body = {**BODY, "modalities": ["text"]}
        from tests.server.api.exchanges import answer

        served.handler.answer = answer()
        assert (await served.client.post(CHAT, json=body)).status_code == 200
        message = check_error(await served.client.post(CHAT, json=BODY), 400, code="no_decoder")
    assert "--decoder" in message
