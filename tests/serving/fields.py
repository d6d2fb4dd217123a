"""Send requests with hostile values in the fields of all routes to a running server.

    python -m tests.serving.fields --requests 10000 --url http://127.0.0.1:8000 [--key KEY]

The fields come from the server's OpenAPI document, and hypothesis draws their values. A response
fails if it has a status 5xx other than 503 with Retry-After, or a message with a path, the name of
a class or more than 200 characters of the request. Exits with status 1 if a response fails.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server.api.error_handlers import FAILED

Json = dict[str, Any]

INTERNALS = re.compile(r"/\w+/\w+|site-packages|\b\w+(Error|Request|Params)\b")
MAX_ECHO = 200
BATCH = 8  # number of requests at the same time
TIMEOUT_S = 120
HELLO = [{"role": "user", "content": "hello"}]
# A valid request to each route. The test sets fields of these requests to hostile values.
VALID: dict[str, Json] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 1},
    "/v1/completions": {"prompt": "hello", "max_tokens": 1},
    "/v1/responses": {"input": "hello", "max_output_tokens": 1, "store": False},
    "/v1/messages": {"model": "any", "messages": HELLO, "max_tokens": 1},
    "/v1/messages/count_tokens": {"model": "any", "messages": HELLO},
    "/v1/embeddings": {"input": "hello"},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1, 2]},
}

BIG = [2**31, -(2**31) - 1, 2**63, 2**64, 10**30, -(10**30), int("9" * 4000)]
NUMBERS = [0, -1, 1, 2, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -0.0, *BIG]
TEXTS = [
    *("", " ", "\x00", "\ud800", "a\udfff", "\uffff", "\U0010ffff", "nan", "1e999", "-1", "null"),
    *("{{ 7 * 7 }}", "{% for x in y %}", "/etc/passwd", "../..", "</s>", "%s%n", "\r\n\r\n"),
    *("x" * 300, "9" * 5000, "é" * 70_000, "(" * 2000, "[" * 3000, "{" * 100_000),
]
GRAMMARS: list[Json] = [
    {"choice": ["a" * 200_000]},
    {"choice": []},
    {"choice": ["\ud800"]},
    {"choice": [f"word {i}" for i in range(20_000)]},
    {"regex": "(.{0,200}){200}"},
    {"regex": "(a+)+b"},
    {"regex": "(?<=a)b\\1"},
    {"regex": "["},
    {"regex": ""},
    {"grammar": "root ::= root"},
    {"grammar": 'root ::= root "a" | "b"'},
    {"grammar": 'root ::= "a"\nroot ::= "b"'},
    {"grammar": "root ::= missing"},
    {"grammar": "start: start"},
    {"grammar": "root ::= " + "(" * 60 + '"a"' + ")" * 60},
    {"json": {"$ref": "#"}},
    {"json": {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}},
    {"json": {"type": "array", "uniqueItems": True}},
    {"json": {"type": "string", "minLength": 2**40}},
    {"json": {"type": "array", "minItems": 10, "maxItems": 1}},
    {"json": {"type": "integer", "minimum": 10**18, "maximum": -(10**18)}},
    {"json": {"enum": []}},
    {"json": "{"},
    {"json": "[" * 5000},
    {"structural_tag": "{}"},
    {"structural_tag": '{"structures": [], "triggers": []}'},
    {"structural_tag": '{"format": {"type": "grammar", "grammar": "root ::= root"}}'},
    {"json_object": False},
    {"regex": "a", "choice": ["b"]},
    {},
]


def deep(levels: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


def hostile(schema: Json, document: Json, level: int = 0) -> st.SearchStrategy[Any]:
    """Draw values for a field with this schema: values of the right type and of all other types."""
    schema = resolve(schema, document)
    scalars = st.sampled_from([*NUMBERS, *TEXTS, None, True, False])
    options: list[st.SearchStrategy[Any]] = [
        scalars,
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=300),
        st.lists(scalars, max_size=3),
        st.dictionaries(st.sampled_from(["", "a", "type", "\ud800", "0"]), scalars, max_size=3),
        st.sampled_from([deep(70, "list"), deep(70, "object"), [[]] * 2000, ["x"] * 2000]),
    ]
    branches = [branch for name in ("anyOf", "oneOf") for branch in schema.get(name, ())]
    if level < 4:
        options += [hostile(branch, document, level + 1) for branch in branches[:6]]
        if "properties" in schema:
            options += [hostile_object(schema, document, level + 1)] * 3
        if "items" in schema:
            options.append(st.lists(hostile(schema["items"], document, level + 1), max_size=3))
    if "enum" in schema:
        options.append(st.sampled_from(schema["enum"]))
    return st.one_of(options)


def hostile_object(schema: Json, document: Json, level: int) -> st.SearchStrategy[Any]:
    properties = schema["properties"]
    return st.lists(st.sampled_from(sorted(properties)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(
            {name: hostile(properties[name], document, level) for name in names}
        )
    )


def resolve(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


@st.composite
def request(draw: st.DrawFn, document: Json) -> tuple[str, Json]:
    path = draw(st.sampled_from(sorted(VALID)))
    schema = resolve(body_schema(document, path), document)
    branches = [resolve(each, document) for each in schema.get("anyOf", [schema])]
    fields = draw(st.sampled_from(branches))["properties"]
    body = dict(VALID[path])
    for name in draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2)):
        body[name] = draw(hostile(fields[name], document))
    if draw(st.integers(0, 5)) == 0:
        grammar = draw(st.sampled_from(GRAMMARS))
        wrapper = {"name": "x", "schema": grammar.get("json")}
        body |= draw(
            st.sampled_from(
                [
                    {"structured_outputs": grammar},
                    {"response_format": {"type": "json_schema", "json_schema": wrapper}},
                    {"response_format": {"type": "structural_tag", "format": grammar}},
                    {"text": {"format": {"type": "json_schema", **wrapper}}},
                    {"output_config": {"format": {"type": "json_schema", **wrapper}}},
                    {"tools": [tool(grammar.get("json"))], "tool_choice": "required"},
                ]
            )
        )
    if draw(st.integers(0, 7)) == 0:
        body["stream"] = True
    return path, body


def tool(parameters: Any) -> Json:
    function = {"name": "f", "parameters": parameters}
    return {"type": "function", "function": function, **function, "input_schema": parameters}


def body_schema(document: Json, path: str) -> Json:
    operation = document["paths"][path]["post"]
    schema: Json = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


@dataclass
class Report:
    statuses: Counter[str] = field(default_factory=Counter)
    nameless: Counter[str] = field(default_factory=Counter)  # Messages of errors without `param`.
    failures: dict[str, str] = field(default_factory=dict)  # Kind of failure -> an example request.
    failed: int = 0

    def fail(self, kind: str, path: str, body: Json) -> None:
        self.failed += 1
        text = f"{path} {json.dumps(body)[:600]}"
        if self.failures.setdefault(kind, text) is text:
            print(f"{kind}\n    {text}", flush=True)


def messages(response: httpx.Response) -> Iterator[tuple[str, str | None]]:
    """Yield (message, parameter) of each error in the response's body or events."""
    for text in [response.text, *re.findall("(?m)^data: (.*)$", response.text)]:
        try:
            error = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(error, dict):
            yield str(error.get("message")), error.get("param")


def echoes(message: str, value: Any) -> bool:
    if isinstance(value, dict):
        return any(echoes(message, each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return any(echoes(message, each) for each in value)
    text = json.dumps(value).strip('"') if not isinstance(value, str) else value
    return any(
        text[start : start + MAX_ECHO + 1] in message
        for start in range(0, min(len(text) - MAX_ECHO, 400), 50)
    )


async def send(client: httpx.AsyncClient, path: str, body: Json, report: Report) -> None:
    data = json.dumps(body)
    try:
        response = await client.post(
            path, content=data, headers={"Content-Type": "application/json"}
        )
    except httpx.HTTPError as error:
        report.statuses[type(error).__name__] += 1
        return report.fail(f"{type(error).__name__} {path}", path, body)
    report.statuses[str(response.status_code)] += 1
    documented = response.status_code == 503 and "retry-after" in response.headers
    if response.status_code >= 500 and not documented:
        report.fail(f"{response.status_code} {path} {response.text[:100]}", path, body)
    for message, param in messages(response):
        if param is None:
            report.nameless[message[:80]] += 1
        if INTERNALS.search(message):
            report.fail(f"internals: {message}", path, body)
        if len(message) > MAX_ECHO and echoes(message, body):
            report.fail(f"echo: {message[:300]}", path, body)
        if message == FAILED and response.status_code == 200:
            report.fail(f"error in a stream {path}", path, body)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--key", default="none")
    options = parser.parse_args()
    sys.set_int_max_str_digits(10_000)
    headers = {"Authorization": f"Bearer {options.key}"}
    document = httpx.get(f"{options.url}/openapi.json", headers=headers, timeout=60).json()
    report, started = Report(), time.monotonic()

    async def send_all(requests: list[tuple[str, Json]]) -> None:
        async with httpx.AsyncClient(
            base_url=options.url, headers=headers, timeout=TIMEOUT_S
        ) as client:
            await asyncio.gather(*(send(client, *each, report) for each in requests))

    @settings(
        max_examples=-(-options.requests // BATCH),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(request(document), min_size=BATCH, max_size=BATCH))
    def attack(requests: list[tuple[str, Json]]) -> None:
        asyncio.run(send_all(requests))
        if report.statuses.total() % 400 < BATCH:
            print(report.statuses.total(), dict(report.statuses), flush=True)

    attack()
    seconds = time.monotonic() - started
    print(f"{report.statuses.total()} requests in {seconds:.0f} s: {dict(report.statuses)}")
    print(f"errors that name no field: {report.nameless.most_common(20)}")
    print(f"{report.failed} failures of {len(report.failures)} kinds")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
