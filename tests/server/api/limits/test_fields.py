"""Limits of request fields: the largest valid values, and values that the server must reject."""

import json
from pathlib import Path
from typing import Any

import pytest
from vllm.sampling_params import RepetitionDetectionParams

from server.api.limits.fields import (
    MAX_CHARACTERS,
    MAX_INTEGER,
    MAX_ITEMS,
    MAX_PROMPTS,
    MAX_REPETITION,
    RANGES,
    REPETITION,
    TOKEN_LISTS,
    check_maxima,
    check_ranges,
    check_values,
)
from server.errors import BadRequest
from server.settings import Settings
from tests.server.api.exchanges import HELLO, check_error
from tests.server.application import serve

SETTINGS = Settings.load(model=Path("m"), max_n=4, max_tokens=100, max_cache_top_k=10)


@pytest.mark.parametrize(
    ("field", "maximum"),
    [
        *(("n", 4), ("best_of", 4), ("max_tokens", 100), ("max_completion_tokens", 100)),
        *(("max_output_tokens", 100), ("min_tokens", 100)),
    ],
)
def test_numbers(field: str, maximum: int) -> None:
    check_maxima({field: maximum}, SETTINGS)
    for value in (maximum + 1, 10**400, float("inf"), f" {maximum + 1} ", "9" * 400):
        with pytest.raises(BadRequest, match=f"{field} must be at most {maximum}") as caught:
            check_maxima({field: value}, SETTINGS)
        assert caught.value.param == field


@pytest.mark.parametrize(("field", "maximum"), MAX_ITEMS.items())
@pytest.mark.parametrize("kind", [list, dict])
def test_lists(field: str, maximum: int, kind: type) -> None:
    def items(count: int) -> Any:
        return kind((str(i), i) for i in range(count))

    check_maxima({field: items(maximum)}, SETTINGS)
    with pytest.raises(BadRequest, match=f"more than {maximum} items"):
        check_maxima({field: items(maximum + 1)}, SETTINGS)


@pytest.mark.parametrize("field", ["stop", "bad_words", "stop_sequences"])
def test_long_texts(field: str) -> None:
    text = "x" * MAX_CHARACTERS
    check_maxima({field: text}, SETTINGS)
    for value in (text + "x", ["a", text + "x"]):
        with pytest.raises(BadRequest, match="more than 256 characters"):
            check_maxima({field: value}, SETTINGS)


def test_prompts() -> None:
    check_maxima({"prompt": list(range(5000))}, SETTINGS)  # A list of token ids is one prompt.
    check_maxima({"prompt": ["x"] * MAX_PROMPTS}, SETTINGS)
    for prompt in ("x", [1, 2]):
        with pytest.raises(BadRequest, match="more than 64 prompts"):
            check_maxima({"prompt": [prompt] * (MAX_PROMPTS + 1)}, SETTINGS)


def test_neighbours() -> None:
    check_maxima({"imagebind": {"cache": {"top_k": 10}}}, SETTINGS)
    with pytest.raises(BadRequest) as caught:
        check_maxima({"imagebind": {"cache": {"top_k": 11}}}, SETTINGS)
    assert caught.value.param == "imagebind.cache.top_k"


@pytest.mark.parametrize("value", [None, "many", [], {}, True, -1, float("nan")])
def test_other_types_are_left_to_the_protocol(value: Any) -> None:
    names = ("n", "max_tokens", "stop", "prompt", "logit_bias", "imagebind")
    check_maxima(dict.fromkeys(names, value), SETTINGS)
    check_maxima({"imagebind": {"cache": value}}, SETTINGS)


@pytest.mark.parametrize(("field", "bounds"), RANGES.items())
def test_ranges(field: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    for value in (low, high, str(high), None, "many", [], True):
        check_maxima({field: value}, SETTINGS)
    for value in (low - 0.5, high * 1.5, 1e300, "nan", "inf", "-1e10", 10**400):
        with pytest.raises(BadRequest, match=f"{field} must be between {low} and {high}") as caught:
            check_maxima({field: value}, SETTINGS)
        assert caught.value.param == field


@pytest.mark.parametrize("name", TOKEN_LISTS)
def test_token_ids(name: str) -> None:
    check_maxima({name: [1, "2", "text", None, [3]]}, SETTINGS)
    for value in (2**31, "9e9", float("inf")):
        with pytest.raises(BadRequest, match="too large a number") as caught:
            check_maxima({name: [1, value]}, SETTINGS)
        assert caught.value.param == f"{name}[1]"


@pytest.mark.parametrize("name", REPETITION)
def test_repetition_detection(name: str) -> None:
    check_maxima({"repetition_detection": {name: MAX_REPETITION}}, SETTINGS)
    for value in (-1, MAX_REPETITION + 1, "1e9"):
        with pytest.raises(BadRequest, match=f"{name} must be between 0 and") as caught:
            check_maxima({"repetition_detection": {name: value}}, SETTINGS)
        assert caught.value.param == f"repetition_detection.{name}"
    parsed = RepetitionDetectionParams(max_pattern_size=9999, min_count=2)
    with pytest.raises(BadRequest, match="max_pattern_size must be"):
        check_ranges({"repetition_detection": parsed})


HALF = "x\ud800"
TEXTS = [
    ({"stop": HALF}, "stop"),
    ({"bad_words": ["a", HALF]}, "bad_words[1]"),
    ({"session_id": HALF}, "session_id"),
    ({"messages": [{"role": "user", "content": HALF}]}, "messages[0].content"),
    ({"tools": [{"input_schema": {"title": HALF}}]}, "tools[0].input_schema.title"),
    ({"logit_bias": {HALF: 1}}, "logit_bias"),
    ({HALF: 1}, None),
    ({"metadata": {"no identifier": HALF}}, "metadata"),
]
INTEGERS = [
    ({"top_k": 10**30}, "top_k"),
    ({"stream_interval": -(10**30)}, "stream_interval"),
    (
        {"repetition_detection": {"max_pattern_size": 2**63}},
        "repetition_detection.max_pattern_size",
    ),
    ({"stop_token_ids": [1, 2**63]}, "stop_token_ids[1]"),
    ({"input": [[2**63]]}, "input[0][0]"),
    ({"structured_outputs": {"json": {"minimum": 2**64}}}, "structured_outputs.json.minimum"),
    ({"structured_outputs": {"json": {"minimum": -(2**64)}}}, "structured_outputs.json.minimum"),
]


@pytest.mark.parametrize(("document", "param"), TEXTS, ids=repr)
def test_half_a_surrogate_pair(document: dict[str, Any], param: str | None) -> None:
    with pytest.raises(BadRequest, match="not valid Unicode") as caught:
        check_values(document)
    assert caught.value.param == param


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite(text: str) -> None:
    document = {"logit_bias": {"1": json.loads(text)}}
    with pytest.raises(BadRequest, match="logit_bias is not a finite number") as caught:
        check_values(document)
    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize(("document", "param"), INTEGERS, ids=repr)
def test_integers_beyond_64_bits(document: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="too large a number") as caught:
        check_values(document)
    assert caught.value.param == param
    assert len(caught.value.message) < 200


def test_texts_and_integers_that_are_allowed() -> None:
    check_values({"stop": "é\U0001f600", "top_k": MAX_INTEGER, "seed": -MAX_INTEGER, "n": True})
    check_values({"tools": [{"function": {"parameters": {"maximum": 10**30}}}]})
    check_values({"messages": [{"content": [{"type": "tool_use", "input": {"x": -(10**30)}}]}]})
    check_values({"response_format": {"json_schema": {"schema": {"maximum": 2**64 - 1}}}})
    check_values({"chat_template_kwargs": {"x": 10**30}})


def test_the_depth_of_a_document_does_not_matter() -> None:
    document: Any = {"top_k": 2**63}
    for _ in range(100_000):
        document = [document]
    with pytest.raises(BadRequest) as caught:
        check_values({"stop": document})
    assert caught.value.param == "stop[0][0][0][0][0][0][0]"


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_route_that_generates_has_them(path: str) -> None:
    response = await serve(max_n=4).client.post(path, json={"messages": HELLO, "n": 5})
    check_error(response, 400, param="n")


@pytest.mark.parametrize("path", [*PATHS, "/v1/embeddings", "/tokenize", "/detokenize"])
@pytest.mark.parametrize("padding", [0, 300_000])
async def test_every_route_of_the_model_checks_values(path: str, padding: int) -> None:
    served = serve()
    for value, param in ((HALF, "stop[0]"), (10**30, "stop[0]")):
        document = {"messages": HELLO, "stop": [value], "user": "x" * padding}
        content = json.dumps(document)  # httpx's own encoder rejects unpaired surrogates
        headers = {"content-type": "application/json"}
        check_error(
            await served.client.post(path, content=content, headers=headers), 400, param=param
        )
    assert not served.handler.seen


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("field", "param"),
    [
        ({"top_k": "9" * 30}, "top_k"),
        ({"stop_token_ids": ["9" * 30]}, "stop_token_ids[0]"),
        (
            {"repetition_detection": {"max_pattern_size": "9" * 30, "min_count": 2}},
            "repetition_detection.max_pattern_size",
        ),
    ],
)
async def test_integers_in_strings(path: str, field: Any, param: str) -> None:
    body = {"messages": HELLO, "prompt": "x", **field}
    check_error(await serve().client.post(path, json=body), 400, param=param)


async def test_token_ids_in_strings() -> None:
    body = {"tokens": [1, "9" * 30]}
    check_error(await serve().client.post("/detokenize", json=body), 400, param="tokens[1]")
