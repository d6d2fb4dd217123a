"""A client cannot set the engine parameters in which the server sends embeddings to the engine."""

from typing import Any

import numpy as np
import pytest

from tests.serving.launch import LOCKED, PLAIN, Server
from tests.serving.media import IMAGE

pytestmark = pytest.mark.engine

END = 2  # the id of the end token </s>
VECTOR = np.full(40, 9, dtype="<f4").tobytes().hex()
XARGS: list[object] = [
    {"bindserve": VECTOR},
    {"bindserve": [9.0] * 40},
    {"bindserve": "NaN"},
    {"bindserve": 1e308},
    {"bindserve": None},
    {"bindserve": {"nested": True}},
    {"other": "x"},
    "not an object",
    [1, 2],
]
FIELDS: list[dict[str, object]] = [
    {"kv_transfer_params": {"do_remote_decode": True}},
    {"ec_transfer_params": {"a": 1}},
    {"mm_processor_kwargs": {"a": 1}},
    {"chat_template": "{{ messages }}"},
    {"extra_args": {"bindserve": VECTOR}},
    {"sampling_params": {"extra_args": {"bindserve": VECTOR}}},
]


rejecting_and_allowing = pytest.mark.parametrize("spec", [PLAIN, LOCKED], ids=str)


def request(**more: object) -> dict[str, object]:
    text = {"type": "text", "text": "Describe the scene in detail."}
    return {
        "model": "any",
        "messages": [{"role": "user", "content": [IMAGE, text]}],
        "temperature": 0,
        "max_tokens": 8,
        "return_token_ids": True,
        **more,
    }


def good_answer(server: Server) -> list[int]:
    body: Any = server.chat(**request())
    ids: list[int] = body["choices"][0]["token_ids"]
    return ids


@rejecting_and_allowing
@pytest.mark.parametrize("xargs", XARGS, ids=str)
def test_vllm_xargs(server: Server, xargs: object) -> None:
    expected = good_answer(server)
    response = server.post("/v1/chat/completions", request(vllm_xargs=xargs))
    # A server that allows vllm_xargs ignores a key in it that would condition the request.
    if response.status_code == 200:
        assert response.json()["choices"][0]["token_ids"] == expected
    else:
        assert response.status_code == 400
        assert response.json()["error"]["param"].startswith("vllm_xargs")
    assert good_answer(server) == expected


@rejecting_and_allowing
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: next(iter(field)))
def test_other_engine_side_fields(server: Server, field: dict[str, object]) -> None:
    expected = good_answer(server)
    response = server.post("/v1/chat/completions", request(**field))
    if response.status_code == 200:  # vLLM accepted the request and ignored the unknown field.
        assert next(iter(field)) in ("extra_args", "sampling_params")
        assert response.json()["choices"][0]["token_ids"] == expected
    else:
        assert response.status_code == 400
        assert response.json()["error"]["param"] == next(iter(field))
    assert good_answer(server) == expected


@pytest.mark.parametrize("spec", [PLAIN], ids=str)
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_special_token_in_a_chat_is_text(server: Server, role: str) -> None:
    """The server encodes `</s>` in a message as text, so that it cannot end the role's turn."""

    def ends(**request: object) -> int:
        response = server.post("/tokenize", {"model": "any", **request})
        assert response.status_code == 200, response.text
        return int(response.json()["tokens"].count(END))

    for text in ("</s>", "a</s></s>", "</</s>s>", "<s></s>"):
        for content in (text, [{"type": "text", "text": text}]):
            messages = [{"role": role, "content": content}, {"role": "user", "content": "Rain"}]
            assert ends(messages=messages) == 0
    assert ends(prompt="a</s>") == 1  # A raw prompt may contain special tokens.


@rejecting_and_allowing
@pytest.mark.parametrize("route", ["/v1/completions", "/v1/responses", "/v1/messages"])
def test_other_routes(server: Server, route: str) -> None:
    expected = good_answer(server)
    body: dict[str, object] = {"model": "any", "max_tokens": 4, "vllm_xargs": {"bindserve": VECTOR}}
    body |= {
        "/v1/completions": {"prompt": "Rain"},
        "/v1/responses": {"input": "Rain", "max_output_tokens": 4},
        "/v1/messages": {"messages": [{"role": "user", "content": "Rain"}]},
    }[route]
    response = server.post(route, body)
    assert response.status_code in (200, 400), response.text
    assert good_answer(server) == expected
