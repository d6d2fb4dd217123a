"""Schemas at OpenAI's limits are accepted. For larger grammars, the error names the field."""

import json
import string
from typing import Any

import pytest

from server.api.grammar.limits import check_grammars
from server.api.grammar.text_size import text_size
from server.errors import BadRequest
from server.settings import GrammarLimits
from tests.server.api.exchanges import HELLO, check_error
from tests.server.api.grammar import schemas
from tests.server.api.grammar.schemas import SCHEMAS, strict
from tests.server.application import serve

LIMITS = GrammarLimits()


def outputs(**constraint: Any) -> dict[str, Any]:
    return {"structured_outputs": constraint}


def json_schema(schema: Any) -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    }


def nested(levels: int) -> Any:
    schema: Any = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_within_openais_limits_pass(name: str) -> None:
    schema = SCHEMAS[name]()
    for document in (
        json_schema(schema),
        outputs(json=schema),
        outputs(json=json.dumps(schema)),
        {"text": {"format": {"type": "json_schema", "schema": schema}}},
        {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        {"tools": [{"type": "function", "function": {"parameters": schema}}]},
        {"tools": [{"type": "function", "parameters": schema}]},
        {"tools": [{"input_schema": schema}]},
    ):
        check_grammars(document, LIMITS)


def test_the_largest_schema_is_at_openais_limits() -> None:
    text = json.dumps(schemas.largest())
    assert text.count('"description"') == 10 * 100
    # 4,980 properties of simple types, 9 next levels, and one enum
    assert text.count("_field") // 2 + text.count('"deeper": {') + 1 == 4990
    assert text.count('"properties"') == schemas.LEVELS
    (_, *names) = schemas.long_names()["properties"]
    assert len(names) == 99


FIELDS = "response_format.json_schema.schema"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "structured_outputs"),
    ({"regex": "a", "choice": ["b"]}, "structured_outputs"),
    ({"whitespace_pattern": "a"}, "structured_outputs"),
    ({"json_object": False}, "structured_outputs.json_object"),
    ({"choice": []}, "structured_outputs.choice"),
]


@pytest.mark.parametrize(("constraint", "field"), WRONG)
def test_a_request_has_one_constraint(constraint: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_grammars(outputs(**constraint), LIMITS)
    assert caught.value.param == field


TOO_LARGE: list[tuple[str, dict[str, Any], str]] = [
    ("choice", outputs(choice=["a" * 200_000]), "structured_outputs.choice"),
    ("many", outputs(choice=["a"] * 5001), "structured_outputs.choice"),
    ("repeated", outputs(regex="(.{0,200}){200}"), "structured_outputs.regex"),
    ("number", outputs(regex="a{" + "9" * 1000 + "}"), "structured_outputs.regex"),
    ("long", outputs(regex="a" * 4097), "structured_outputs.regex"),
    ("groups", outputs(regex="(" * 65 + ")" * 65), "structured_outputs.regex"),
    ("class", outputs(regex="[" + "x" * 1025 + "]"), "structured_outputs.regex"),
    ("alternatives", outputs(grammar="root ::= " + "a|" * 5001), "structured_outputs.grammar"),
    ("grammar", outputs(grammar="root ::= " + "a" * 65_536), "structured_outputs.grammar"),
    ("deep", outputs(grammar="root ::= " + "(" * 65), "structured_outputs.grammar"),
    ("times", outputs(grammar='root ::= ("ab"{9999}){9999}'), "structured_outputs.grammar"),
    ("space", outputs(json={}, whitespace_pattern="(a{999}){99}"), "structured_outputs.whitesp"),
    ("properties", json_schema(strict({str(i): {} for i in range(5001)})), FIELDS),
    ("enum", json_schema({"enum": list(range(5001))}), FIELDS),
    ("names", json_schema(strict({"n" * 120_001: {}})), FIELDS),
    ("bytes", json_schema({"description": "x" * (2 << 20)}), FIELDS),
    ("levels", json_schema(nested(65)), FIELDS),
    ("pattern", json_schema({"items": {"pattern": "(.{0,200}){200}"}}), FIELDS),
    ("reference", json_schema({"$ref": "#"}), FIELDS),
    ("circle", json_schema({"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}), FIELDS),
    ("elsewhere", json_schema({"$ref": "https://example.com/schema"}), FIELDS),
    ("text", outputs(json=json.dumps({"$ref": "#"})), "structured_outputs.json"),
    ("brackets", outputs(json="[" * 100_000), "structured_outputs.json"),
    ("tool", {"tools": [{}, {"input_schema": {"$ref": "#"}}]}, "tools[1]"),
    (
        "tag",
        outputs(structural_tag=json.dumps({"format": {"type": "grammar", "grammar": "(" * 99}})),
        "structured_outputs.structural_tag",
    ),
    (
        "triggers",
        {"response_format": {"type": "structural_tag", "triggers": ["a"] * 5001}},
        "response_format",
    ),
]


@pytest.mark.parametrize(
    ("document", "field"), [case[1:] for case in TOO_LARGE], ids=[c[0] for c in TOO_LARGE]
)
def test_what_is_too_large_is_rejected_by_field(document: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_grammars(document, LIMITS)
    assert caught.value.param is not None
    assert caught.value.param.startswith(field)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("value", [None, 1, "x", [], ["x", 1], {}, {"a": 1}, True])
def test_other_types_are_left_to_the_protocol(value: Any) -> None:
    names = ("response_format", "text", "output_config", "tools")
    check_grammars(dict.fromkeys(names, value), LIMITS)
    if not isinstance(value, dict):
        check_grammars({"structured_outputs": value}, LIMITS)
    for source in ("regex", "choice", "grammar") if value else ():
        check_grammars(outputs(**{source: value}), LIMITS)
    check_grammars(outputs(json=json.dumps(value)), LIMITS)


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        *(("abc", 3), ("a{3}", 3), ("a{2,5}b", 6), ("(ab){2,}", 4), ("((a{2}){3}){4}", 24)),
        *(("[a-z]{5}", 5), (r"\(a\){2}", 4), ("a{,7}", 7), ("a+b*c?", 6), ("[]a]{2}", 2)),
        *(("[^\\]]{3}", 3), ("(a", 1), ("a)", 2), ("{3}", 0), ("a{x}", 4)),
    ],
)
def test_repetitions_are_counted(text: str, positions: int) -> None:
    assert text_size(text, quoted=False).positions == positions


def test_literals_in_a_grammar() -> None:
    size = text_size('root ::= "a|b(" | ("cd"{3} [x-z"])~2..4 # |\nb ::= root', quoted=True)
    assert (size.nesting, size.alphabet) == (1, 4)
    assert size.positions >= 4 + 4 * (2 * 3 + 1)


def test_any_text_can_be_measured() -> None:
    for text in ("[", "(", "\\", '"', '"\\', "{", "[\\", "[]", "~", "a{", "{1}{2}{3}"):
        for quoted in (True, False):
            text_size(text, quoted=quoted)
    text_size(string.printable * 100, quoted=True)


ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_that_generates_has_bounds(path: str) -> None:
    request = {"messages": HELLO, **outputs(choice=["a" * 200_000])}
    response = await serve().client.post(path, json=request)
    check_error(response, 400, param="structured_outputs.choice")
    assert response.json()["error"]["code"] == "grammar_too_large"


async def test_an_operator_can_raise_a_limit() -> None:
    request = {"messages": HELLO, **outputs(choice=["a" * 200_000])}
    served = serve(grammar={"characters": 300_000})
    response = await served.client.post(ROUTES[0], json=request)
    assert response.status_code != 400
