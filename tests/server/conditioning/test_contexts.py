"""Texts for the Input slot: which turn they belong to, their limits, and hostile texts."""

from typing import Any

import pytest

from server.conditioning.contexts import Contexts, shorten, take_contexts
from server.errors import BadRequest
from server.media.attachments import message_parts

MAX_TOKENS = 8


def starts(text: str) -> list[int]:
    """A tokenizer whose tokens are two characters."""
    return list(range(0, len(text), 2))


def contexts_of(*messages: Any, where: str = "messages") -> Contexts:
    contexts = Contexts(starts, MAX_TOKENS)
    message_parts(list(messages), where=where)
    take_contexts(list(messages), contexts, where=where)
    return contexts


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def context(text: Any) -> dict[str, Any]:
    return {"type": "context", "text": text}


WHAT = {"type": "text", "text": "What?"}
ANSWER = {"role": "assistant", "content": "This."}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def test_a_context_leaves_the_message_and_fills_its_turn() -> None:
    messages = [{"role": "system", "content": "Be brief."}, user(WHAT, context("rain")), ANSWER]
    messages += [user(context("one"), IMAGE, WHAT, context("two"))]
    assert contexts_of(*messages).values() == ["rain", "one\ntwo"]
    assert messages[1]["content"] == messages[3]["content"] == "What?"


def test_no_context_no_slot() -> None:
    assert contexts_of(user(WHAT)).values() == []
    assert contexts_of(user(WHAT, context(" \n"))).values() == []
    text: Any = "What?"
    contexts = Contexts(starts, MAX_TOKENS)
    take_contexts(text, contexts, where="input")
    contexts.add("upload", "rain")
    assert contexts.values() == ["rain"]


def test_an_expert_adds_to_the_turn_of_its_attachment() -> None:
    contexts = contexts_of(user(IMAGE, WHAT), ANSWER, user(WHAT))
    contexts.add("messages[0].content[0]", "sign: ### exit")
    assert contexts.values() == ["sign: # exit", ""]
    contexts.add("file", "an upload")
    assert contexts.values()[1] == "an upload"


def test_an_experts_text_is_shortened() -> None:
    contexts = contexts_of(user(WHAT))
    contexts.add("messages[0].content[0]", "0123456789" * 10)
    assert contexts.values() == ["0123456789012345"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "content": [context("x")]}, "messages[0].content"),
        ({"role": "system", "content": [context("x")]}, "messages[0].content"),
        (user(context(None)), "messages[0].content.text"),
        (user({"type": "context"}), "messages[0].content.text"),
        (user(context("x" * 17)), "messages[0].content"),
    ],
)
def test_wrong_parts(message: Any, param: str) -> None:
    with pytest.raises(BadRequest) as error:
        contexts_of(message)
    assert error.value.param == param


def test_a_result_of_anthropics_form_is_no_turn() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "4"}
    messages = [user(WHAT), user(result), user(result, context("rain"), WHAT)]
    contexts = Contexts(starts, MAX_TOKENS)
    take_contexts(messages, contexts, where="messages")
    assert contexts.turns == {0: 0, 2: 1}
    assert contexts.values() == ["", "rain"]


@pytest.mark.parametrize("length", range(20))
def test_shorten(length: int) -> None:
    text = "abcdefghijklmnopqrst"[:length]
    assert shorten(text, 8, starts) == text[:16]
