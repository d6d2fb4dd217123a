"""Send JSON schemas at OpenAI's published limits for structured outputs to a real server.

    python -m tests.serving.schemas --model MODEL

The server must compile each schema to its end: in the grammar process, and again in the engine. The
program prints one table row per schema, and exits with status 1 if an answer does not begin as the
schema requires.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.server.api.grammar.schemas import SCHEMAS, Schema
from tests.serving.launch import Server, serve

TOKENS = 96
TIMEOUT_S = 600
CHAT = "/v1/chat/completions"


def ask(server: Server, name: str, schema: Schema) -> tuple[float, httpx.Response]:
    """Returns (seconds, response)."""
    form = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
    body: dict[str, Any] = {"model": "any", "max_tokens": TOKENS, "response_format": form}
    body["messages"] = [{"role": "user", "content": "Fill in the form."}]
    start = time.monotonic()
    response = httpx.post(f"{server.url}{CHAT}", json=body, timeout=TIMEOUT_S)
    return time.monotonic() - start, response


def begins_as_required(text: str, schema: Schema) -> bool:
    """Whether the text is the beginning of an object with the schema's first property. The text may
    end within the property's name, because the answer has at most TOKENS tokens.
    """
    first = json.dumps(next(iter(schema["properties"])))
    begun = re.match(r"\s*\{\s*", text)
    rest = text[begun.end() :] if begun else ""
    return bool(rest) and (rest.startswith(first) or first.startswith(rest))


def run(server: Server) -> bool:
    print("| schema | bytes | first answer, s | second answer, s | status | begins as required |")
    print("|---|---|---|---|---|---|")
    passed = True
    for name, make in SCHEMAS.items():
        schema = make()
        first_s, response = ask(server, name, schema)
        fine = response.status_code == 200 and begins_as_required(
            response.json()["choices"][0]["message"]["content"], schema
        )
        second_s = ask(server, name, schema)[0] if fine else float("nan")
        size = len(json.dumps(schema))
        print(
            f"| {name} | {size} | {first_s:.1f} | {second_s:.1f} | {response.status_code} | "
            f"{'yes' if fine else response.text[:300]} |",
            flush=True,
        )
        passed = passed and fine
    return passed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(options.model, Path(folder) / "log", "--cache=none") as running,
    ):
        sys.exit(not run(running))
