"""Chats and completions with attachments, on the application with fakes of the engine and the
encoders.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from vllm.exceptions import QueueOverflowError

from model_ext.conditioning import pack
from tests.server.api.exchanges import CHAT, HELLO, answer, check_error, image, send_and_leave
from tests.server.application import TEXT_ONLY, Served, serve


async def test_without_attachments_a_chat_is_text_only(served: Served) -> None:
    response = await served.client.post(CHAT, json={"model": "tiny", "messages": HELLO})
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Hi"
    assert response.headers["x-bindserve-cache"] == "off"
    assert "imagebind" not in response.json()
    assert served.handler.embeddings == [pack(TEXT_ONLY)]


async def test_attachments_condition_and_vllm_receives_the_text(served: Served) -> None:
    content = [image(0), {"type": "text", "text": "What?"}, image(90, weight=3)]
    body = {"messages": [{"role": "user", "content": content}], "imagebind": {"explain": True}}
    response = await served.client.post(CHAT, json=body)
    embedding = np.frombuffer(served.handler.embeddings[0], "<f4")
    np.testing.assert_allclose(embedding, [0.25, 0.75], atol=1e-5)
    (request,) = served.handler.seen
    assert [message["content"] for message in request.messages] == ["What?"]
    assert "imagebind" not in (request.model_extra or {})
    explanation = response.json()["imagebind"]
    assert [part["param"] for part in explanation["mix"]] == [
        "messages[0].content[0]",
        "messages[0].content[2]",
    ]
    assert [part["share"] for part in explanation["mix"]] == [0.25, 0.75]


async def test_a_completion_takes_attachments(served: Served) -> None:
    body = {"prompt": "Hello", "attachments": [image(90)]}
    assert (await served.client.post("/v1/completions", json=body)).status_code == 200
    embedding = np.frombuffer(served.handler.embeddings[0], "<f4")
    np.testing.assert_allclose(embedding, [0, 1], atol=1e-5)
    assert served.handler.seen[0].prompt == "Hello"


async def test_requests_at_the_same_time_keep_their_own_embedding(served: Served) -> None:
    def body(number: int) -> Any:
        content = [image(number), {"type": "text", "text": str(number)}]
        return {"messages": [{"role": "user", "content": content}]}

    await asyncio.gather(*(served.client.post(CHAT, json=body(n)) for n in range(30)))
    for request, packed in zip(served.handler.seen, served.handler.embeddings, strict=True):
        angle = int(request.messages[0]["content"]) * np.pi / 180
        embedding = np.frombuffer(packed, "<f4")
        np.testing.assert_allclose(embedding, [np.cos(angle), np.sin(angle)], atol=1e-5)


async def test_a_stream_is_passed_on_and_explained_in_its_first_event(served: Served) -> None:
    events = ['data: {"n":1}\n\n', 'data: {"n":2}\n\n', "data: [DONE]\n\n"]

    async def stream() -> AsyncIterator[str]:
        for event in events:
            yield event

    for explain in (False, True):
        served.handler.answer = stream()
        body = {"messages": HELLO, "stream": True, "imagebind": {"explain": explain}}
        response = await served.client.post(CHAT, json=body)
        assert response.headers["content-type"].startswith("text/event-stream")
        first, *rest = response.text.split("\n\n")
        assert rest == ['data: {"n":2}', "data: [DONE]", ""]
        event = json.loads(first.removeprefix("data: "))
        assert event["n"] == 1
        assert ("imagebind" in event) == explain


async def test_urls_are_fetched_only_where_the_operator_allows_it() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://host/90"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    for allowed in (False, True):
        served = serve(allow_media_urls=allowed)
        served.handler.answer = answer()
        response = await served.client.post(CHAT, json=body)
        if allowed:
            embedding = np.frombuffer(served.handler.embeddings[0], "<f4")
            np.testing.assert_allclose(embedding, [0, 1], atol=1e-5)
        else:
            check_error(response, 400, code="url_not_enabled", param="messages[0].content[0]")


async def test_a_full_engine_rejects_before_decoding(served: Served) -> None:
    served.engine.full = QueueOverflowError()
    content = [image(1)]
    response = await served.client.post(
        CHAT, json={"messages": [{"role": "user", "content": content}]}
    )
    check_error(response, 503)
    assert response.headers["retry-after"]
    assert not served.components.components.decoded


async def test_a_client_that_disconnects_cancels_the_request(served: Served) -> None:
    served.components.components.go.clear()
    body = {"messages": [{"role": "user", "content": [image(1)]}]}
    await send_and_leave(served.app, json.dumps(body).encode(), content_type="application/json")
    await asyncio.sleep(0.01)
    assert served.components.components.decoded == [b"1"]
    assert not served.components.conditioner._embedder.embedder._results._in_flight  # type: ignore[attr-defined]
    assert not served.handler.seen
