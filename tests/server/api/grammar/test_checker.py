"""The compilation of grammars in separate processes: valid grammars pass, invalid and costly
grammars are rejected, and cancelled compilations end.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import xgrammar
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.sampling_params import StructuredOutputsParams

from server.api.grammar.checker import Grammar, GrammarChecker
from server.api.grammar.constraint import (
    check_constraints,
    check_outputs,
    json_grammar,
    to_vllm_error,
)
from server.context import RequestContext, current, entered
from server.errors import BadRequest, RequestError, TooManyRequests, Unavailable
from server.settings import GrammarLimits
from tests.server.api.grammar.schemas import SCHEMAS, largest
from tests.server.waiting import until

VOCABULARY = ["</s>", *map(chr, range(32, 127)), "\n", "aa", 'a"', "the"]
LARGEST = json.dumps(largest())  # its compilation takes more than 20 s
LIMITS = GrammarLimits(processes=2)


def start() -> dict[str, Any]:
    info = xgrammar.TokenizerInfo(VOCABULARY, stop_token_ids=[0])
    return {"tokenizer": info.serialize_json(), "any_whitespace": True}


@asynccontextmanager
async def opened(**limits: Any) -> AsyncIterator[GrammarChecker]:
    checker = GrammarChecker(start, LIMITS.model_copy(update=limits), 1 << 27)
    try:
        yield checker
    finally:
        await checker.close()


@pytest.fixture(autouse=True)
def request_context() -> Iterator[None]:
    with entered(RequestContext(b"", address="10.0.0.1")):
        yield


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child_count(checker: GrammarChecker) -> int:
    process = checker._template._process
    assert process
    return len(children(process.pid))


INVALID = [
    ("regex", "(a", "is not valid"),
    ("grammar", "root ::= root", "allows no text"),
    ("grammar", 'root ::= "a"\nroot ::= "b"', "defined multiple times"),
    ("grammar", "root ::= missing", "is not valid"),
    ("json", '{"$ref": "#"}', "allows no text"),
    ("json", '{"type": "unknown"}', "is not valid"),
    ("lark", "start: missing", "is not valid"),
    ("structural_tag", '{"type": "structural_tag"}', "is not valid"),
    ("structural_tag", '{"structures": [1]}', "is not valid"),
]


async def test_grammars() -> None:
    """All cases of this test share one grammar process, because its start takes seconds."""
    async with opened() as checker:
        for name in SCHEMAS.keys() - {"largest"}:
            await checker.check(json_grammar(SCHEMAS[name](), "json"), "json")
        await checker.check(Grammar("lark", 'start: "a" | "b"'), "grammar")
        tag = {"begin": "<a>", "schema": {"type": "integer"}, "end": "</a>"}
        legacy = json.dumps({"structures": [tag], "triggers": ["<a"]})
        await checker.check(Grammar("structural_tag", legacy), "tag")
        for kind, spec, message in INVALID:
            with pytest.raises(BadRequest, match=f"^field .*{message}") as caught:
                await checker.check(Grammar(kind, spec), "field")  # type: ignore[arg-type]
            assert caught.value.param == "field"
            assert len(caught.value.message) < 200
            assert "/" not in caught.value.message
        await the_engine_gets_what_was_checked(checker)
        await the_client_leaves(checker)
        await the_kernel_kills_a_compilation(checker)
        await a_client_has_one_compilation_at_a_time(checker)


async def the_engine_gets_what_was_checked(checker: GrammarChecker) -> None:
    outputs = await check_outputs(StructuredOutputsParams(choice=['a"', "the"]), checker, "choice")
    assert outputs.choice is None
    assert outputs.grammar == r'root ::= "a\"" | "the"'
    schema = {"type": "integer", "multipleOf": 5}
    outputs = await check_outputs(StructuredOutputsParams(json=schema), checker, "json")
    assert outputs.json == '{"type": "integer"}'
    outputs = await check_outputs(StructuredOutputsParams(json_object=True), checker, "json")
    assert outputs.json_object
    for bad in ({"json": ""}, {"json": "5"}, {"choice": []}, {"grammar": ""}, {"regex": "(a"}):
        with pytest.raises(BadRequest) as caught:
            await check_outputs(StructuredOutputsParams(**bad), checker, "field")
        assert caught.value.param == "field"
    unsupported = {"type": "array", "uniqueItems": True}
    with pytest.raises(BadRequest, match="uniqueItems"):
        await check_outputs(StructuredOutputsParams(json=unsupported), checker, "field")


async def the_client_leaves(checker: GrammarChecker) -> None:
    task = asyncio.ensure_future(checker.check(Grammar("json", LARGEST), "json"))
    await until(lambda: bool(child_count(checker)))
    task.cancel()
    await until(lambda: not child_count(checker))
    assert task.cancelled()


async def the_kernel_kills_a_compilation(checker: GrammarChecker) -> None:
    """If the compiling process is killed, the grammar may be valid: the server does not respond
    with 400, and caches no result.
    """
    process, grammar = checker._template._process, Grammar("json", LARGEST)
    assert process
    for generation in (1, 2):
        task = asyncio.ensure_future(checker.check(grammar, "json"))
        await until(lambda: any(children(child) for child in children(process.pid)))
        (pid,) = children(process.pid)
        os.kill(pid if generation == 1 else children(pid)[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended"):
            await task
        await until(lambda: not child_count(checker))
    assert grammar.digest not in checker._results


async def test_a_stalled_process_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as checker:
        await checker.check(Grammar("regex", "a"), "regex")
        stalled = checker._template._process
        assert stalled
        stalled.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("server.api.grammar.checker.FORK_TIMEOUT_S", 0.5)
        waiting = []
        for client in ("10.0.0.2", "10.0.0.3"):
            with entered(RequestContext(b"", address=client)):
                check = checker.check(Grammar("regex", f"b{client}"), "regex")
                waiting.append(asyncio.ensure_future(check))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in results] == [Unavailable, Unavailable]
        assert stalled.returncode == -signal.SIGKILL
        monkeypatch.undo()
        await checker.check(Grammar("regex", "c"), "regex")


async def a_client_has_one_compilation_at_a_time(checker: GrammarChecker) -> None:
    """While 64 slow grammars of one client wait, another client's grammar is compiled at once.
    Without API keys, a client is an address.
    """
    slow = [Grammar("json", LARGEST + " " * i) for i in range(64)]
    tasks = [asyncio.ensure_future(checker.check(each, "json")) for each in slow]
    await until(lambda: bool(child_count(checker)))
    with pytest.raises(TooManyRequests, match="64 grammars"):
        await checker.check(Grammar("regex", "b"), "regex")
    assert child_count(checker) == 1
    with entered(RequestContext(b"", address="10.0.0.2")):
        await checker.check(Grammar("regex", "c"), "regex")
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not checker._queues


async def test_limits_of_time_memory_and_masks() -> None:
    async with opened(cpu_s=0.2, mask_ms=1e-6) as checker:
        document = {"structured_outputs": {"json": LARGEST}}
        for _ in range(2):  # the second check uses the cached result
            with pytest.raises(BadRequest, match=r"structured_outputs.json cannot be compiled"):
                await check_constraints(document, checker)
        assert current().grammar_field == "structured_outputs.json"
        checker._limits = LIMITS.model_copy(update={"memory_bytes": 8 << 20, "mask_ms": 1e-6})
        with pytest.raises(BadRequest, match=r"and 8 MiB of memory"):
            await checker.check(Grammar("json", LARGEST + " "), "json")
        with pytest.raises(BadRequest, match=r"needs \d+\.\d ms per token"):
            await checker.check(Grammar("regex", "[a-z]+"), "regex")
        process = checker._template._process
        assert process
        process.kill()  # the next check starts a new process
        await process.wait()
        with pytest.raises(BadRequest, match="is not valid"):
            await checker.check(Grammar("regex", "(b"), "regex")


@pytest.mark.parametrize("error", [BadRequest("m"), TooManyRequests("m"), Unavailable("m")])
def test_errors_keep_their_status_in_vllms_streams(error: RequestError) -> None:
    assert create_error_response(to_vllm_error(error)).error.code == error.status
