"""Rows with conversations and tools: their rounds, roles and prompts. Their token ids equal those
of a server.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from model_ext.convert.tokenizer import write_tokenizer
from model_ext.prompt import alpaca_prompt
from model_ext.train.data.conversations import RowError, dialogues
from model_ext.train.data.examples import Example
from model_ext.train.data.split import split_long, split_rounds
from model_ext.train.data.tokens import Dialogue, Turn, count_tokens, tokenize
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer
from server.api.prompt.tools import remove_marks
from tests.model_ext.tool_parsers.goldens import DEFINITIONS
from tests.model_ext.train.conftest import FIXTURES

MODEL = FIXTURES / "tiny" / "llama" / "tokenizer.model"
LONG = 1 << 20


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return open_tokenizer(MODEL)


def conversation(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"id": "x", "conversations": [{"from": f, "value": v} for f, v in messages]}


def rounds(*messages: tuple[str, str]) -> list[tuple[str, str]]:
    (dialogue,) = dialogues(conversation(*messages), "all")
    return [(turn.instruction, turn.answer) for turn in dialogue.turns]


def test_roles_of_sharegpt() -> None:
    messages = [("user", "a"), ("chatgpt", "b"), ("human", "c"), ("bard", "d")]
    assert rounds(*messages) == [("a", "b"), ("c", "d")]
    (dialogue,) = dialogues(conversation(("system", "Be brief."), *messages), "first")
    assert dialogue == Dialogue((Turn("a", "b"),), "Be brief.\n\n", "x")


def test_a_leading_answer_and_a_trailing_question_are_dropped() -> None:
    assert rounds(("gpt", "hi"), ("human", "a"), ("gpt", "b"), ("human", "c")) == [("a", "b")]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([("human", "a"), ("human", "b"), ("gpt", "c")], "alternate"),
        ([("human", "a"), ("gpt", "b"), ("gpt", "c"), ("human", "d")], "alternate"),
        ([("human", "a"), ("narrator", "b")], "unknown role 'narrator'"),
        ([("gpt", "a"), ("human", "b")], "needs a question"),
    ],
)
def test_broken_conversations(messages: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        dialogues(conversation(*messages), "all")


@pytest.mark.parametrize("question", ["<image>\nWhat?", "What?\n<image>", "<image>What?"])
def test_the_mark_of_the_picture_is_removed(question: str) -> None:
    assert rounds(("human", question), ("gpt", "b")) == [("What?", "b")]


def test_a_context_is_the_input() -> None:
    row = {"instruction": "a", "input": " x\r\n### y ", "output": "b"}
    assert dialogues(row, "all") == [Dialogue((Turn("a", "b", "x\n# y"),))]
    content = [{"type": "text", "text": "a"}, {"type": "context", "text": " x\r\n### y "}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "b"}]
    assert dialogues({"messages": messages}, "all") == dialogues(row, "all")


def test_a_row_of_gpt4tools_is_an_alpaca_row(tokenizer: TextTokenizer) -> None:
    """Training targets include the mark `Observation:`, after which the model stops."""
    reply = "Thought: Do I need to use a tool? Yes\nAction: A\nAction Input: x\nObservation:"
    (dialogue,) = dialogues({"instruction": "TOOLS", "input": "", "output": reply}, "first")
    sample = tokenize(dialogue.turns, tokenizer, LONG)
    learned = [i for i in sample.labels.tolist() if i and i != tokenizer.eos]
    assert tokenizer.decode(learned) == reply


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(*names: str) -> dict[str, Any]:
    calls = [
        {
            "id": name,
            "type": "function",
            "function": {"name": name, "arguments": {"image": "a.png"}},
        }
        for name in names
    ]
    return message("assistant", None, tool_calls=calls)


def conversations() -> list[list[dict[str, Any]]]:
    """Make dialogues of one to five turns, with and without a system message and contexts."""
    result = []
    for count in range(1, 6):
        turns = []
        for number in range(count):
            parts: list[Any] = [{"type": "text", "text": f"Question {number}?\nNow, 一只猫."}]
            if number % 2 == count % 2:
                parts.append({"type": "context", "text": f"sign {number}"})
            turns += [message("user", parts), message("assistant", f"Answer {number}.")]
        result += [turns, [message("system", "Be brief."), *turns]]
    return result


def with_calls() -> list[dict[str, Any]]:
    return [
        message("system", "Use tools."),
        message("user", "One?"),
        call("now"),
        message("tool", "12\n### Response:", tool_call_id="now"),
        message("assistant", "Noon."),
        message("user", [{"type": "text", "text": "Two?"}, {"type": "context", "text": "sign"}]),
        call("resize", "now"),
        message("tool", "a.png", tool_call_id="resize"),
        message("tool", "13", tool_call_id="now"),
        message("assistant", "Done: a.png"),
    ]


def served(folder: Path, messages: list[Any], **options: Any) -> list[int]:
    """Return the token ids of a server's prompt. As in the server, context parts are passed
    separately from the messages.
    """
    texts, contexts = [], []
    for each in messages:
        parts = each["content"] if isinstance(each["content"], list) else []
        if parts:
            text = "\n".join(part["text"] for part in parts if part["type"] == "text")
            each = {**each, "content": text}
        if each["role"] == "user":
            contexts.append("".join(p["text"] for p in parts if p["type"] == "context"))
        texts.append(each)
    ids: list[int] = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        texts, return_dict=False, contexts=contexts, **options
    )
    return ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(MODEL, folder, 512)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.mark.parametrize("messages", conversations(), ids=len)
def test_training_ids_are_serving_ids(
    folder: Path, tokenizer: TextTokenizer, messages: list[Any]
) -> None:
    """Up to each answer, the token ids equal those of the server's prompt. Only the answers have
    labels.
    """
    (dialogue,) = dialogues({"messages": messages}, "all")
    sample = tokenize(dialogue.turns, tokenizer, LONG, system=dialogue.system)
    ids = sample.ids.tolist()
    assert served(folder, messages) == ids[:-1]
    for index, each in enumerate(messages):
        if each["role"] == "assistant":
            prompt = served(folder, messages[:index], add_generation_prompt=True)
            assert ids[: len(prompt)] == prompt
            assert not sample.labels[len(prompt) - 1]
            assert sample.labels[len(prompt)] == ids[len(prompt)]


def test_training_ids_are_serving_ids_with_tools(folder: Path, tokenizer: TextTokenizer) -> None:
    """Each message of the model is one example. Its prompt equals the server's prompt."""
    messages = with_calls()
    examples = dialogues({"messages": messages, "tools": DEFINITIONS}, "all")
    indexes = [i for i, each in enumerate(messages) if each["role"] == "assistant"]
    assert len(examples) == len(indexes) == 4
    for index, example in zip(indexes, examples, strict=True):
        sample = tokenize(example.turns, tokenizer, LONG, system=example.system)
        options: dict[str, Any] = {"tools": DEFINITIONS, "add_generation_prompt": True}
        received = deepcopy(messages[:index])
        remove_marks(received)
        prompt = served(folder, received, **options)
        assert sample.ids[: len(prompt)].tolist() == prompt
        assert not sample.labels[: len(prompt)].any()
        assert sample.labels[len(prompt) :].tolist() == sample.ids[len(prompt) :].tolist()
    reply = examples[2].turns[0].answer
    assert reply.startswith("Thought: Do I need to use a tool? Yes\nAction: resize\n")
    assert reply.endswith("\nObservation:")
    assert examples[3].turns[0].answer == "Thought: Do I need to use a tool? No\nAI: Done: a.png"
    assert [example.turns[0].input for example in examples] == [*("", "", "    sign", "    sign")]


@pytest.mark.parametrize(
    ("text", "line"), [('{"image": "a.png"}', '{"image": "a.png"}'), ("x", '"x"'), ("", '""')]
)
def test_arguments_are_json_texts_as_in_openais_form(text: str, line: str) -> None:
    messages = [message("user", "x"), call("resize")]
    messages[1]["tool_calls"][0]["function"]["arguments"] = text
    (example,) = dialogues({"messages": messages, "tools": DEFINITIONS}, "all")
    assert example.turns[0].answer.endswith(f"\nAction Input: {line}\nObservation:")


def test_a_message_of_weight_0_is_not_learned() -> None:
    messages = with_calls()
    messages[4]["weight"] = 0
    examples = dialogues({"messages": messages, "tools": DEFINITIONS}, "all")
    assert len(examples) == 3
    assert "AI: Noon." in examples[1].turns[0].instruction
    with pytest.raises(RowError, match="weight"):
        dialogues({"messages": [message("user", "x"), {**messages[4]}]}, "all")


def test_a_call_without_a_result_is_refused() -> None:
    messages = [message("user", "x"), call("now"), message("assistant", "y")]
    with pytest.raises(RowError, match="result"):
        dialogues({"messages": messages, "tools": DEFINITIONS}, "all")


def long_example(count: int) -> Example:
    turns = tuple(Turn(f"Question {n}?", "word " * (4 + n % 3)) for n in range(count))
    return Example(turns, None, "Be brief.\n\n", "x")


@pytest.mark.parametrize("max_tokens", [40, 150, 260, 400, 5000])
def test_long_dialogues_are_split_into_whole_rounds(
    tokenizer: TextTokenizer, max_tokens: int
) -> None:
    """The pieces contain all rounds. Only a piece of a single round may be too long, and each piece
    has as many rounds as fit.
    """
    example = long_example(9)
    pieces = split_rounds(example, tokenizer, max_tokens)
    assert sum((piece.turns for piece in pieces), ()) == example.turns
    assert {piece.system for piece in pieces} == {example.system}
    start = 0
    for number, piece in enumerate(pieces):
        length = count_tokens(piece.turns, tokenizer, piece.system)
        assert length == len(tokenize(piece.turns, tokenizer, LONG, system=piece.system).ids)
        assert length <= max_tokens or len(piece.turns) == 1
        assert piece.id == (f"x_{2 * start}" if len(pieces) > 1 else "x")
        start += len(piece.turns)
        if number + 1 < len(pieces):
            longer = (*piece.turns, pieces[number + 1].turns[0])
            assert count_tokens(longer, tokenizer, piece.system) > max_tokens
    assert split_long([example, example], tokenizer, max_tokens) == pieces * 2


def test_a_context_of_a_later_turn_is_in_its_prompt(tokenizer: TextTokenizer) -> None:
    turns = (Turn("a", "b"), Turn("c", "d", "sign"))
    text = tokenizer.decode(tokenize(turns, tokenizer, LONG).ids.tolist()[1:-1])
    end = "b\n\n### Instruction:\nc\n\n### Input:\nsign\n\n### Response:d"
    assert text == alpaca_prompt("a") + end
