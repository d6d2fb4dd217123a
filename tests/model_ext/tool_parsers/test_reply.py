"""Replies with tool calls: golden replies, and streams that are cut into random pieces."""

import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from model_ext.tool_parsers.arguments import parse_line, plain_names
from model_ext.tool_parsers.reply import CallArguments, CallStart, Content, Event, Reply
from tests.model_ext.tool_parsers.goldens import GOLDENS, TOOLS

# Number of random ways to cut the streams. The test also passed once with 100,000.
CHUNKINGS = 10_000
YES, NO = "Thought: Do I need to use a tool? Yes\n", "Thought: Do I need to use a tool? No\n"


def total(events: Iterable[Event]) -> tuple[str | None, list[list[str]]]:
    content, calls = None, []
    for event in events:
        match event:
            case Content(text):
                content = (content or "") + text
            case CallStart(name):
                calls.append([name, ""])
            case CallArguments(text):
                calls[-1][1] += text
    return content, calls


def read(reply: Reply, pieces: Iterable[str], cut: bool = False) -> tuple[str | None, Any]:
    events = [event for piece in pieces for event in reply.feed(piece)]
    return total([*events, *reply.finish(cut=cut)])


def pieces(text: str, rng: random.Random) -> list[str]:
    count = rng.randint(0, min(12, len(text)))
    borders = sorted({0, len(text), *rng.sample(range(len(text) + 1), count)})
    return [text[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("case", GOLDENS["reply"], ids=lambda case: repr(case[0])[-40:])
def test_a_reply(case: Any) -> None:
    text, parallel, reason, content, calls, finish_reason = case
    reply = Reply(TOOLS, parallel)
    assert read(reply, [text], cut=reason == "length") == (content, calls)
    ended = "tool_calls" if calls else "stop"
    assert ("length" if reply.cut_inside else ended) == finish_reason


@pytest.mark.parametrize("case", GOLDENS["render"], ids=lambda case: repr(case[2])[:40])
def test_a_line_of_arguments(case: Any) -> None:
    name, _, line, arguments = case
    assert parse_line(line, plain_names(TOOLS[name])) == arguments


def random_reply(rng: random.Random) -> str:
    """Make a random reply of complete and broken blocks, with quotes, line breaks, nested JSON and
    Chinese.
    """
    values = [
        '"quoted"',
        "一只猫, 狗",
        '{"a": {"b": ["x\\n", "}"]}}',
        "{broken",
        "",
        " a.png ",
        '"',
    ]
    texts = ["Hello.", "Obs", "\nObservation: x\n", "Thought:", "一二三", "AI:", " \n ", "Action:"]
    blocks = []
    for _ in range(rng.randint(1, 4)):
        name = rng.choice([*TOOLS, "RESIZE", "nothing", "now "])
        line = f"Action: {name}\nAction Input: {rng.choice(values)}{rng.choice(['', ' ', chr(10)])}"
        blocks.append(rng.choice([YES + line, YES + line, YES, NO + "AI: ", NO, line, ""]))
        blocks.append(rng.choice([*texts, "\n", "\n"]))
    whole = "".join(blocks)
    return whole[: rng.randint(1, len(whole))] if whole and rng.random() < 0.3 else whole


def test_any_chunking_gives_the_calls_of_the_whole_text() -> None:
    rng = random.Random(0)
    seen = set()
    for number in range(CHUNKINGS):
        text = rng.choice(GOLDENS["reply"])[0] if number % 4 == 0 else random_reply(rng)
        parallel, cut = rng.random() < 0.7, rng.random() < 0.3
        whole, streamed = Reply(TOOLS, parallel), Reply(TOOLS, parallel)
        expected = read(whole, [text], cut)
        assert read(streamed, pieces(text, rng), cut) == expected, text
        assert whole.cut_inside == streamed.cut_inside
        seen.add((bool(expected[0]), len(expected[1])))
    assert seen >= {(True, 0), (True, 1), (False, 1), (False, 2), (True, 2)}


def test_a_call_opens_when_its_input_begins() -> None:
    reply = Reply(TOOLS)
    assert reply.feed(f"{YES}Action: resize\nAction Input") == []
    assert reply.feed(":") == [CallStart("resize")]
    assert reply.feed(' {"im') == [CallArguments('{"im')]
    assert reply.feed("age") == [CallArguments("age")]


def test_plain_arguments_come_as_a_whole_line() -> None:
    reply = Reply(TOOLS)
    reply.feed(f"{YES}Action: Detect the Give Object\nAction Input: a.png, th")
    assert reply.feed("e cat") == []
    assert reply.feed("\nX") == [CallArguments('{"image": "a.png", "object": "the cat"}')]


def test_content_flows_except_for_a_tail_that_may_be_the_stop_text() -> None:
    reply = Reply(TOOLS)
    assert reply.feed(f"{NO}AI: Hello\nObs") == [Content("Hello")]
    assert reply.feed("cure") == [Content("\nObscure")]
    assert reply.feed("\nObservation: x") == []
    assert reply.feed("more") == []
    assert reply.finish(cut=True) == []
    assert not reply.cut_inside


@pytest.mark.parametrize("text", ["Sure. " + YES, "Thoughts", "Action: now"])
def test_prose_without_a_thought_is_content(text: str) -> None:
    """Text that looks like a call in the middle of prose is not a call, so that clients do not run
    a quoted call.
    """
    text += "Action: now\nAction Input: {}"
    assert read(Reply(TOOLS), text) == (text, [])


def test_no_call_with_arguments_that_were_cut() -> None:
    text = f"{YES}Action: Detect the Give Object\nAction Input: a.png, the ca"
    assert read(Reply(TOOLS), [text], cut=True) == (None, [["Detect the Give Object", ""]])


def test_the_json_of_a_named_call_may_have_several_lines() -> None:
    """For a named tool, the JSON is forced by a grammar, which allows line breaks."""
    text = f'{YES}Action: now\nAction Input: {{\n "a": {{\n}}\n}}\n'
    assert read(Reply(TOOLS, named=True), text) == (None, [["now", '{\n "a": {\n}\n}']])
    assert read(Reply(TOOLS), text) == (None, [["now", "{"]])
