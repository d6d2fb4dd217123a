"""Routes, middleware and errors of the whole application, with fakes of the engine and the
encoders.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse, UsageInfo
from vllm.exceptions import QueueOverflowError, VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from model_ext.conditioning import pack
from server.api.limits.fields import ENGINE_FIELDS
from server.api.middleware.auth import OPEN_PATHS, key_digest
from tests.server.application import TEXT_ONLY, Served, serve

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def image(number: int, **extra: Any) -> dict[str, Any]:
    """A content part with an image that the fake encoders embed as a direction in degrees."""
    text = {"text": str(number)}
    return {"type": "imagebind_text", "imagebind_text": text, "modality": "image", **extra}


def answer() -> ChatCompletionResponse:
    message = ChatMessage(role="assistant", content="Hi")
    choice = ChatCompletionResponseChoice(index=0, message=message)
    return ChatCompletionResponse(model="tiny", choices=[choice], usage=UsageInfo())


def check_error(response: httpx.Response, status: int, **expected: Any) -> str:
    """Check that the response contains OpenAI's error object. Returns its message."""
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert {key: error[key] for key in expected} == expected
    message: str = error["message"]
    assert message
    return message


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve()
    served.handler.answer = answer()
    async with served.client:
        yield served


# The following tests send attachments.


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


# The following tests send requests that the server must reject.


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("field", ENGINE_FIELDS)
async def test_engine_fields_are_refused_by_name(served: Served, path: str, field: str) -> None:
    response = await served.client.post(path, json={"messages": HELLO, field: {"bindserve": 1}})
    check_error(response, 400, param=field, code="field_not_allowed")
    assert not served.handler.seen


async def test_templates_are_not_smuggled_in(served: Served) -> None:
    for key in ("chat_template", "tokenize"):
        body = {"messages": HELLO, "chat_template_kwargs": {key: "{{ 1 }}"}}
        response = await served.client.post(CHAT, json=body)
        check_error(response, 400, param=f"chat_template_kwargs.{key}")
    body = {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}
    assert (await served.client.post(CHAT, json=body)).status_code == 200


async def test_the_operator_may_allow_a_field() -> None:
    served = serve(allow_fields=("vllm_xargs",))
    served.handler.answer = answer()
    for field, status in (("vllm_xargs", 200), ("kv_transfer_params", 400)):
        body = {"messages": HELLO, field: {"a": 1}}
        assert (await served.client.post(CHAT, json=body)).status_code == status


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": 3}, "messages"),
        ({"messages": HELLO, "max_tokens": "many"}, "max_tokens"),
        ({"messages": HELLO, "n": [1]}, "n"),
        ({"messages": HELLO, "imagebind": 3}, "imagebind"),
        ({"messages": HELLO, "imagebind": {"cach": True}}, "imagebind.cach"),
        ({"messages": HELLO, "imagebind": {"cache": {"top_k": 0}}}, "imagebind.cache.top_k"),
        ({"messages": HELLO, "imagebind": {"cache": {"weight": 2}}}, "imagebind.cache.weight"),
        ({"messages": HELLO, "imagebind": {"cache": {"k": 1}}}, "imagebind.cache.k"),
        ({"messages": HELLO, "imagebind": {"cache": 1}}, "imagebind.cache"),
        ({"messages": HELLO, "imagebind": {"cache": True}}, "imagebind.cache"),
        ({"messages": HELLO, "imagebind": {"explain": "yes"}}, "imagebind.explain"),
        (
            {"messages": [{"role": "user", "content": [image(1), image("x")]}]},
            "messages[0].content[1]",
        ),
        ({"messages": [{"role": "user", "content": [image(1, weight=0)]}]}, "weight"),
        ({"messages": [{"content": "no role"}]}, "messages[0].role"),
    ],
)
async def test_a_bad_request_names_the_field(served: Served, body: Any, param: str) -> None:
    response = await served.client.post(CHAT, json=body)
    check_error(response, 400, param=param, type="invalid_request_error")
    assert not served.handler.seen


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/tokenize"])
async def test_what_is_no_json_object(served: Served, path: str) -> None:
    kind = {"content-type": "application/json"}
    for content in (b"{", b"", b"\xff", b"[" * 100_000, b"[]", b"3"):
        response = await served.client.post(path, content=content, headers=kind)
        check_error(response, 400)
    for kind in ({}, {"content-type": "text/plain"}):
        check_error(await served.client.post(path, content=b"{}", headers=kind), 415)


@pytest.mark.parametrize("wrong", [[None, None], ["x"], 3, "x", {"json": {}, "regex": 3}])
@pytest.mark.parametrize("field", ["structured_outputs", "response_format", "tools", "stop"])
async def test_a_field_of_another_type(served: Served, field: str, wrong: Any) -> None:
    """vLLM's validators read a field before they check its type. The server must still respond
    with 400 if the type is wrong, and not with 500.
    """
    response = await served.client.post(CHAT, json={"messages": HELLO, field: wrong})
    if response.status_code != 200:  # A text is a valid value of the field "stop".
        check_error(response, 400)


async def test_unknown_paths_and_methods(served: Served) -> None:
    check_error(await served.client.get("/v1/nope"), 404, type="not_found_error")
    for method, path, allowed in [
        ("GET", CHAT, "POST"),
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/files/file-1", "DELETE, GET"),
        ("TRACE", "/metrics", "GET"),
    ]:
        response = await served.client.request(method, path)
        check_error(response, 405)
        assert response.headers["allow"] == allowed
    check_error(await served.client.get("/metrics-x"), 404)
    for path in ("/inference/v1/generate", "/invocations", "/v1/load_lora_adapter", "/pause"):
        # vLLM has these routes, but the application must not include them.
        check_error(await served.client.post(path, json={}), 404)


async def test_a_large_body_is_refused_declared_or_not() -> None:
    served = serve(max_body_bytes=1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    kind = {"content-type": "application/json"}
    for path in (CHAT, "/v1/responses"):
        for content in (b" " * 1001, chunks()):
            response = await served.client.post(path, content=content, headers=kind)
            check_error(response, 413, code="too_large")
    bad = {**kind, "content-length": "-5"}
    check_error(await served.client.post(CHAT, content=b"{}", headers=bad), 400)


@pytest.mark.parametrize(
    ("raised", "status", "shown"),
    [
        (ValueError("bad /usr/lib/secret.py"), 400, "bad <path>"),
        (VLLMValidationError("too hot", parameter="temperature", value="v" * 99), 400, "too hot"),
        (NotImplementedError("no beams"), 400, "no beams"),
        (RuntimeError("at /secret/path"), 500, "failed"),
        (KeyError("/secret/path"), 500, "failed"),
        (EngineDeadError(), 503, "engine is down"),
        (QueueOverflowError(), 503, "busy"),
    ],
)
async def test_vllms_errors_get_our_shape(
    served: Served, raised: Exception, status: int, shown: str
) -> None:
    served.handler.answer = raised
    response = await served.client.post(CHAT, json={"messages": HELLO})
    message = check_error(response, status)
    assert shown in message
    assert "secret" not in message
    assert ("retry-after" in response.headers) == (status == 503)


async def test_errors_that_vllm_returns_get_our_shape(served: Served) -> None:
    info = ErrorInfo(message="no such model", type="NotFoundError", code=404, param="model")
    served.handler.answer = ErrorResponse(error=info)
    response = await served.client.post(CHAT, json={"messages": HELLO})
    check_error(response, 404, code="model_not_found", param="model", type="not_found_error")


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
    """The test calls the application over ASGI, like a client that sends a body and disconnects."""
    served.components.components.go.clear()
    body = {"messages": [{"role": "user", "content": [image(1)]}]}
    messages = [
        {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False},
        {"type": "http.disconnect"},
    ]
    scope = {
        **{"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode()},
        **{"query_string": b"", "headers": [(b"content-type", b"application/json")]},
        **{"http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1)},
    }

    async def receive() -> Any:
        if len(messages) == 1:
            # The client disconnects while the server computes the embedding.
            await asyncio.sleep(0.05)
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    async with asyncio.timeout(5):
        await served.app(scope, receive, send)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert served.components.components.decoded == [b"1"]
    assert not served.components.conditioner._embedder.embedder._results._in_flight  # type: ignore[attr-defined]
    assert not served.handler.seen


# The following tests send API keys.


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def matrix(served: Served) -> list[tuple[str, str]]:
    """Return all pairs of a method and a path of the application, also those without a route."""
    paths = set()
    for route in served.app.routes:
        path = getattr(route, "path", None)
        assert path is not None, f"{route} has no path, so the tests of API keys omit this route"
        paths.add(path)
    assert len(paths) >= 15
    return [(method, path) for path in sorted(paths) for method in METHODS]


@pytest.mark.parametrize("host", ["test", "evil.example", "127.0.0.1:1/health?", "[::1]"])
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "right", "Bearer", "Basic right", "Bearer right right"]
)
async def test_no_route_but_the_health_checks_opens_without_a_key(
    header: str | None, host: str
) -> None:
    served = serve("right", "also right")
    headers = {"host": host} | ({} if header is None else {"authorization": header})
    opened = set()
    for method, path in matrix(served):
        response = await served.client.request(method, path, headers=headers)
        if response.status_code != 401:
            opened.add(path)
        elif method != "HEAD":  # HEAD has no response body.
            check_error(response, 401, code="invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
    assert opened == OPEN_PATHS == {"/health", "/ready"}
    for path in ("/v1/nope", "//health", "/health/", "/ready/..", "/HEALTH"):
        check_error(await served.client.get(path, headers=headers), 401)


@pytest.mark.parametrize("key", ["right", "also right"])
async def test_every_route_opens_with_a_key(key: str) -> None:
    served = serve("right", "also right")
    served.handler.answer = answer()
    headers = {"authorization": f"bearer {key}"}
    for method, path in matrix(served):
        response = await served.client.request(method, path, headers=headers)
        assert response.status_code != 401, path
        if response.status_code >= 400 and method != "HEAD":
            check_error(response, response.status_code)


async def test_the_key_is_part_of_the_salt() -> None:
    served = serve("one", "two")
    served.handler.answer = answer()
    for key in ("one", "two"):
        headers = {"authorization": f"Bearer {key}"}
        await served.client.post(CHAT, json={"messages": HELLO}, headers=headers)
    assert served.handler.salts == [key_digest(key).hex() for key in ("one", "two")]


async def test_preflight_requests_of_allowed_origins_need_no_key() -> None:
    asking = {"origin": "https://page", "access-control-request-method": "POST"}
    closed = serve("right")
    check_error(await closed.client.options(CHAT, headers=asking), 401)
    opened = serve("right", flags={"allowed_origins": ["https://page"]})
    response = await opened.client.options(CHAT, headers=asking)
    assert response.headers["access-control-allow-origin"] == "https://page"
    check_error(await opened.client.post(CHAT, json={}, headers={"origin": "https://page"}), 401)


async def test_each_key_has_its_limits() -> None:
    served = serve("one", "two", key_requests_per_minute=2)

    async def status(key: str, path: str = "/v1/models") -> int:
        response = await served.client.get(path, headers={"authorization": f"Bearer {key}"})
        if response.status_code == 429:
            check_error(response, 429, code="rate_limit_exceeded", type="rate_limit_error")
            assert 1 <= int(response.headers["retry-after"]) <= 30
        return response.status_code

    assert [await status("one") for _ in range(3)] == [200, 200, 429]
    assert [await status("two") for _ in range(3)] == [200, 200, 429]
    assert await status("one", "/health") == 200
    assert await status("wrong") == 401


async def test_openais_client_has_a_class_for_temporary_errors() -> None:
    """OpenAI's client raises an exception class for each kind of temporary error.

    tests/serving/test_openai_client.py tests other errors.
    """
    served = serve(key_requests_per_minute=1)
    client = openai.AsyncOpenAI(
        base_url="http://test/v1",
        api_key="-",
        # The parameter's type is httpx2's client, but the library also accepts clients of httpx.
        http_client=served.client,  # type: ignore[arg-type]
        max_retries=0,
    )
    served.engine.full = QueueOverflowError()
    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model="tiny", messages=HELLO)  # type: ignore[arg-type]
    assert full.value.status_code == 503
    with pytest.raises(openai.RateLimitError) as limited:
        await client.models.list()
    assert limited.value.code == "rate_limit_exceeded"
    for error in (full.value, limited.value):
        assert int(error.response.headers["retry-after"]) > 0


# The following tests check request ids.


async def test_every_answer_has_an_id(served: Served) -> None:
    for path in ("/v1/models", "/v1/nope", "/health"):
        response = await served.client.get(path)
        assert len(response.headers["x-request-id"]) == 32
    for client_id, kept in [
        ("mine-1.2", True),
        ("x" * 65, False),
        ("a b", False),
        ("\u00e9", False),
    ]:
        headers = {"x-request-id": client_id.encode("latin-1")}
        response = await served.client.get("/health", headers=headers)  # type: ignore[arg-type]
        assert (response.headers.get_list("x-request-id") == [client_id]) == kept
    locked = serve("right")
    assert (await locked.client.get("/v1/models")).headers["x-request-id"]


# The following tests call the other routes.


async def test_models_have_their_provenance_but_not_their_path(served: Served) -> None:
    response = await served.client.get("/v1/models")
    assert "secret" not in response.text
    (card,) = response.json()["data"]
    assert card["imagebind"] == {"encoders": ["vision"]}
    assert (await served.client.get("/v1/models/tiny")).json()["id"] == "tiny"
    check_error(await served.client.get("/v1/models/other"), 404, code="model_not_found")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "one"}, 200),
        ({"x-api-key": "two"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "two", "authorization": "Bearer one"}, 200),
        ({"x-api-key": "one", "authorization": "Bearer two"}, 401),
    ],
)
async def test_the_header_of_anthropics_client(headers: dict[str, str], status: int) -> None:
    served = serve("one")
    assert (await served.client.get("/v1/models", headers=headers)).status_code == status
    body = {"messages": "none"}  # The route rejects this body with 400.
    response = await served.client.post("/v1/messages", json=body, headers=headers)
    assert response.status_code == (400 if status == 200 else 401)


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
async def test_only_the_operators_key_reads_the_metrics(tmp_path: Path, path: str) -> None:
    (tmp_path / "key").write_text("operator\n")
    root = path.removesuffix("/metrics")
    served = serve("client", flags={"root_path": root}, metrics_key_file=tmp_path / "key")

    async def status(path: str, key: str) -> int:
        response = await served.client.get(path, headers={"authorization": f"Bearer {key}"})
        return response.status_code

    assert [await status(path, key) for key in ("operator", "client", "")] == [200, 401, 401]
    assert [await status("/v1/models", key) for key in ("operator", "client")] == [401, 200]


async def test_the_metrics_can_need_a_key_when_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("operator\n")
    served = serve(metrics_key_file=tmp_path / "key")
    check_error(await served.client.get("/metrics"), 401)
    assert (await served.client.get("/v1/models")).status_code == 200


async def test_head_of_the_health_checks(served: Served) -> None:
    for path in ("/health", "/ready"):
        assert (await served.client.head(path)).status_code == 200
    served.components.lost = "the encoders stopped"
    assert (await served.client.head("/ready")).status_code == 503


async def test_health_and_readiness(served: Served) -> None:
    async def status(path: str) -> int:
        return (await served.client.get(path)).status_code

    assert [await status("/health"), await status("/ready")] == [200, 200]
    served.components.lost = "the encoders stopped"
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.components.lost, served.engine.draining = None, True
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.engine.draining, served.engine.seconds_stalled = False, 31
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.engine.errored = True
    assert [await status("/health"), await status("/ready")] == [503, 503]


async def test_metrics_of_the_stages_are_on_the_page(served: Served) -> None:
    content = [image(12)]
    await served.client.post(CHAT, json={"messages": [{"role": "user", "content": content}]})
    page = (await served.client.get("/metrics")).text
    for stage, modality in [("attachments", ""), ("embed", "text"), ("retrieve", "")]:
        labels = f'{{modality="{modality}",stage="{stage}"}}'
        assert f"bindserve_stage_seconds_count{labels}" in page


async def test_the_operators_middleware_is_applied() -> None:
    served = serve(flags={"middleware": ["tests.server.application.Stamp"]})
    assert (await served.client.get("/health")).headers["x-stamp"] == "operator"
    with pytest.raises(ValueError, match="FLAGS: neither a class nor a coroutine function"):
        serve(flags={"middleware": ["tests.server.application.FLAGS"]})


async def test_limits_apply_to_paths_with_the_root_path() -> None:
    """A proxy may leave the root path in the URL, and the router accepts such a URL."""
    served = serve("client", flags={"root_path": "/api"}, max_requests=1)
    headers = {"authorization": "Bearer client"}
    assert (await served.client.get("/api/health")).status_code == 200
    served.app.state.running.add("another client")
    for path in ("/v1/chat/completions", "/api/v1/chat/completions"):
        response = await served.client.post(path, json={}, headers=headers)
        check_error(response, 503, code="server_full")


async def test_a_form_with_the_root_path_may_have_the_size_of_an_upload() -> None:
    served = serve(flags={"root_path": "/api"}, max_body_bytes=100)
    files = {"file": ("a.txt", b"0" * 1000)}
    response = await served.client.post("/api/v1/files", files=files, data={"purpose": "vision"})
    assert response.status_code != 413
