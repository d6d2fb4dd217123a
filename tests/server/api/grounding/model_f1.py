"""Measure how well the language model lists the nouns of 200 labelled answers (answers.txt).

    python -m tests.server.api.grounding.model_f1 --url http://127.0.0.1:8000 --model demo

For each answer, the program sends the request that grounding with `"nouns": "model"` sends to the
server's own engine. It prints how many of the lists are valid under the JSON schema, and the F1 of
the nouns, which count only if both ends of their spans are exact. Exits with status 1 if a list is
not valid.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass

import httpx
import jsonschema

from model_ext.grounding.nouns import Noun
from server.api.grounding.model_nouns import SCHEMA, located, read_list, request_of
from tests.model_ext.grounding.labels import Labelled, read_answers
from tests.model_ext.grounding.test_nouns import f1

CLIENTS = 32


@dataclass(frozen=True)
class Listed:
    """The model's list of an answer's nouns. `error`: why it is not valid, or an empty string."""

    nouns: list[Noun]
    names: int  # number of names in the list, also of names that the answer does not contain
    finish: str
    error: str


async def ask(client: httpx.AsyncClient, model: str, answer: Labelled) -> Listed:
    body = request_of(answer.text, model).model_dump(by_alias=True, exclude_unset=True)
    response = await client.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        return Listed([], 0, "", f"status {response.status_code}: {response.text[:200]}")
    (choice,) = response.json()["choices"]
    content, finish = choice["message"]["content"], choice["finish_reason"]
    try:
        jsonschema.validate(json.loads(content), SCHEMA)
    except (ValueError, jsonschema.ValidationError) as error:
        return Listed([], 0, finish, f"{finish}: {str(error)[:80]}")
    names = read_list(content)
    return Listed(located(names, answer.text), len(names), finish, "")


async def ask_all(url: str, model: str, answers: list[Labelled]) -> list[Listed]:
    limit = asyncio.Semaphore(CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def one(answer: Labelled) -> Listed:
            async with limit:
                return await ask(client, model, answer)

        return await asyncio.gather(*map(one, answers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--answers", type=int, default=200)
    options = parser.parse_args()
    answers = read_answers()[: options.answers]
    results = asyncio.run(ask_all(options.url, options.model, answers))
    errors = Counter(each.error for each in results if each.error)
    print(f"{len(results) - errors.total()} of {len(results)} lists are valid under the schema")
    print(f"errors: {dict(errors)}")
    print(f"ends of the lists: {dict(Counter(each.finish for each in results))}")
    labelled = sum(len(answer.spans) for answer in answers)
    nouns = [each.nouns for each in results]
    print(f"{labelled} labelled nouns; {sum(each.names for each in results)} names in the lists")
    print(f"{sum(map(len, nouns))} of the names are in their answers; F1 {f1(answers, nouns):.3f}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
