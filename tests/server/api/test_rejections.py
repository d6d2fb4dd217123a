"""Requests that the server must reject, and the form of the errors, which is OpenAI's."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.exceptions import QueueOverflowError, VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from server.api.limits.fields import ENGINE_FIELDS
from tests.server.api.exchanges import CHAT, HELLO, answer, check_error, client_of, image
from tests.server.application import Served, serve


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("field", ENGINE_FIELDS)
async def test_engine_fields_are_refused_by_name(served: Served, path: str, field: str) -> None:
    response = await served.client.post(path, json={"messages": HELLO, field: {"bindserve": 1}})
    check_error(response, 400, param=field, code="field_not_allowed")
    assert not served.handler.seen


async def test_templates_are_not_smuggled_in(served: Served) -> None:
    for key in ("chat_template", "tokenize", "contexts", "attachments", "tool_prose"):
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


async def test_openais_client_has_a_class_for_temporary_errors() -> None:
    """OpenAI's client raises an exception class for each kind of temporary error.

    tests/serving/test_openai_client.py tests other errors.
    """
    served = serve(key_requests_per_minute=1)
    client = client_of(served, "-")
    served.engine.full = QueueOverflowError()
    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model="tiny", messages=HELLO)  # type: ignore[arg-type]
    assert full.value.status_code == 503
    with pytest.raises(openai.RateLimitError) as limited:
        await client.models.list()
    assert limited.value.code == "rate_limit_exceeded"
    for error in (full.value, limited.value):
        assert int(error.response.headers["retry-after"]) > 0
