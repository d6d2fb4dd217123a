"""Limits on request fields: values at the maximum, values above it, and values that only the
protocol classes check.
"""

from pathlib import Path
from typing import Any

import pytest

from server.api.field_limits import MAX_CHARACTERS, MAX_ITEMS, MAX_PROMPTS, check_maxima
from server.errors import BadRequest
from server.settings import Settings
from tests.server.api.test_app import HELLO, check_error
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
    for value in (maximum + 1, 10**400, float("inf")):
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
    check_maxima({"prompt": list(range(5000))}, SETTINGS)  # a list of token ids is one prompt
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


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_route_that_generates_has_them(path: str) -> None:
    response = await serve(max_n=4).client.post(path, json={"messages": HELLO, "n": 5})
    check_error(response, 400, param="n")
