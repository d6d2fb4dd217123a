"""Send thousands of requests with random attachments, prompts, lengths and aborts to a server whose
KV cache is too small, and compare each answer with the answer to the same request alone.

    python -m tests.serving.isolation --model FOLDER --requests 10000 [--runner v2]

The worker checks its slots in every step (tests/checking). If the log-probabilities of the two best
tokens differ by less than 1e-3 in the single request, the batch may choose the other token. Such
near-ties are counted and do not fail the check. deploy/gpu_check.py runs this file as its step
`isolation`.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deploy.gpu.arguments import Arguments, step_parser
from tests.conftest import convert_fixtures
from tests.serving.launch import AUTHORIZATION, SMALL_CACHE, Runner, Server, serve

TOKENS, CLIENTS, ATTACHMENTS = 24, 48, 16
NEAR_TIE = 1e-3
PROMPTS = [
    " ".join(f"Look at number {i} of scene {j} and describe it." for i in range(6 + 2 * j))
    for j in range(6)
]
BUDGET = 128  # Max. tokens of an engine step (SMALL_CACHE); longer prompts are computed in chunks.


@dataclass
class Report:
    requests: int = 0
    aborted: int = 0
    compared: int = 0
    near_ties: int = 0
    wrong: list[str] = field(default_factory=list)
    cached_tokens: int = 0
    chunked: int = 0  # number of compared requests whose prompt needs several engine steps
    preemptions: int = 0
    slots_checked: int = 0
    early_rows: int = 0  # requests whose rows were computed before they arrived (V2 only)
    seconds: float = 0

    def assert_isolated(self) -> None:
        assert not self.wrong, self.wrong[:3]
        assert self.near_ties <= max(1, self.compared // 1000)
        assert self.compared
        assert self.aborted
        assert self.cached_tokens
        assert self.chunked
        assert self.preemptions
        assert self.slots_checked


@dataclass(frozen=True)
class Question:
    attachment: int
    prompt: int

    def body(self, tokens: int) -> dict[str, Any]:
        vector = np.random.default_rng(self.attachment).standard_normal(40)
        part = {"type": "imagebind_embedding", "imagebind_embedding": {"data": vector.tolist()}}
        return {
            **{"model": "any", "prompt": PROMPTS[self.prompt], "attachments": [part]},
            **{"max_tokens": tokens, "temperature": 0, "ignore_eos": True},
            **{"logprobs": 2, "return_token_ids": True, "return_tokens_as_token_ids": True},
        }


@dataclass(frozen=True)
class Solo:
    ids: list[int]
    # difference between the log-probabilities of the two best tokens, for each step
    margins: list[float]


async def solo(client: httpx.AsyncClient, question: Question) -> Solo:
    response = await client.post("/v1/completions", json=question.body(TOKENS))
    response.raise_for_status()
    (choice,) = response.json()["choices"]
    tops = [sorted(top.values(), reverse=True) for top in choice["logprobs"]["top_logprobs"]]
    return Solo(choice["token_ids"], [top[0] - top[1] for top in tops])


async def ask(
    client: httpx.AsyncClient,
    question: Question,
    expected: Solo,
    report: Report,
    rng: random.Random,
) -> None:
    tokens = rng.randint(1, TOKENS)
    report.requests += 1
    if rng.random() < 0.2:
        report.aborted += 1
        return await abort(client, question.body(TOKENS), rng.random() * 0.2)
    response = await client.post("/v1/completions", json=question.body(tokens))
    response.raise_for_status()
    body = response.json()
    cached = body["usage"]["prompt_tokens_details"]["cached_tokens"] or 0
    report.cached_tokens += cached
    report.chunked += body["usage"]["prompt_tokens"] - cached > BUDGET
    compare(question, body["choices"][0]["token_ids"], expected, report)


def compare(question: Question, ids: list[int], expected: Solo, report: Report) -> None:
    report.compared += 1
    for step, (token, expected_token) in enumerate(zip(ids, expected.ids, strict=False)):
        if token != expected_token:
            if expected.margins[step] > NEAR_TIE:
                report.wrong.append(f"{question}, step {step}: {token}, alone {expected_token}")
            else:
                report.near_ties += 1
            return  # stop here, because the following tokens have different contexts


async def abort(client: httpx.AsyncClient, body: dict[str, Any], after: float) -> None:
    """Disconnect before or during the stream."""
    try:
        async with asyncio.timeout(after):
            async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as r:
                async for _ in r.aiter_lines():
                    pass
    except TimeoutError:
        pass


async def attack(server: Server, requests: int, seed: int) -> Report:
    rng, report, start = random.Random(seed), Report(), time.monotonic()
    questions = [Question(a, p) for a in range(ATTACHMENTS) for p in range(len(PROMPTS))]
    questions = rng.sample(questions, min(len(questions), max(8, requests // 10)))
    limits = httpx.Limits(max_connections=CLIENTS)
    checked_before, early_before = (
        logged(server, "slots checked"),
        logged(server, "early rows used"),
    )
    async with httpx.AsyncClient(
        base_url=server.url, timeout=600, limits=limits, headers=AUTHORIZATION
    ) as client:
        preempted_before = await preemptions(client)
        alone = {question: await solo(client, question) for question in questions}
        remaining = iter(range(requests))

        async def one_client() -> None:
            for _ in remaining:
                question = rng.choice(questions)
                await ask(client, question, alone[question], report, rng)

        await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
        report.preemptions = await preemptions(client) - preempted_before
    report.slots_checked = logged(server, "slots checked") - checked_before
    report.early_rows = logged(server, "early rows used") - early_before
    report.seconds = time.monotonic() - start
    return report


async def preemptions(client: httpx.AsyncClient) -> int:
    """Return how many requests the engine has preempted since its start."""
    return int(metric((await client.get("/metrics")).text, "vllm:num_preemptions_total"))


def logged(server: Server, count: str) -> int:
    """Return a count of the worker since its start. It logs powers of 2 (tests/checking)."""
    counts = re.findall(rf"{count}: (\d+)", server.log.read_text())
    return max(map(int, counts), default=0)


def metric(text: str, name: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def run(model: Path, log: Path, requests: int, runner: Runner, seed: int = 0) -> Report:
    with serve(
        model, log, "--cache=none", runner=runner, flags=SMALL_CACHE, checking=True
    ) as server:
        return asyncio.run(attack(server, requests, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--runner", choices=["v1", "v2"], default="v1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        report = run(options.model, log, options.requests, options.runner, options.seed)
    print(report)
    report.assert_isolated()


def step() -> None:
    """Step `isolation` of deploy/gpu_check.py, on Model Runner V2."""
    parser = step_parser(__doc__)
    parser.add_argument("--requests", type=int)
    options = parser.parse_args()
    arguments = Arguments.of(options)
    requests = options.requests or (2000 if arguments.full else 50)
    model = convert_fixtures(arguments.work / "models", ["finetune"], [])["finetune"]
    report = run(model, arguments.work / "server.log", requests, "v2")
    print(report)
    for name in ("requests", "aborted", "compared", "near_ties", "chunked", "preemptions"):
        arguments.rows.number(name.replace("_", " "), getattr(report, name), "")
    arguments.rows.number("prompt tokens from the prefix cache", report.cached_tokens, "")
    arguments.rows.number("slots checked by the worker", report.slots_checked, "")
    arguments.rows.number("rows computed before their requests arrived", report.early_rows, "")
    try:
        report.assert_isolated()
    except AssertionError as error:
        arguments.rows.check(
            "every answer equals that of the single request", False, str(error)[:200]
        )
    else:
        arguments.rows.check("every answer equals that of the single request", True)


if __name__ == "__main__":
    step() if any(argument.startswith("--rows") for argument in sys.argv) else main()
