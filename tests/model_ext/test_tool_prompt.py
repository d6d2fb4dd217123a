"""The chat template with tools: the prompt's parts, earlier calls and results, hostile results."""

import json
import random
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from model_ext.prompt import CHAT_TEMPLATE, WITHOUT_INPUT, alpaca_prompt, chat_prompt
from model_ext.tool_parsers.arguments import parse_line, plain_names
from model_ext.tool_parsers.reply import CallArguments, CallStart, Reply
from tests.model_ext.tool_parsers.goldens import DEFINITIONS, GOLDENS, TOOLS

HEAD = WITHOUT_INPUT.split("{instruction}")[0]
END = "\n\n### Response:"


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: object) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def call(name: str, arguments: Any, id: str = "1") -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [call_of(name, arguments, id)],
    }


def call_of(name: str, arguments: Any, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content: object, id: str = "1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def prompt(*messages: Any, **options: Any) -> str:
    text = chat_prompt(messages, tools=DEFINITIONS, **options)
    assert text.startswith(HEAD)
    return text


def arguments_of(text: str) -> Any:
    """Return the arguments in the form in which vLLM and the server pass them to the template."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"": text}


@pytest.mark.parametrize("case", GOLDENS["render"], ids=lambda case: repr(case[1])[:40])
def test_a_call_in_the_prompt(case: Any) -> None:
    name, text, line, _ = case
    messages = user("x"), call(name, arguments_of(text)), result("42")
    step = f"Thought: Do I need to use a tool? Yes\nAction: {name}\nAction Input: {line}"
    assert prompt(*messages).endswith(f"\n{step}\nObservation: 42{END}")


@pytest.mark.parametrize("case", GOLDENS["result"], ids=lambda case: repr(case[0]))
def test_a_result_in_the_prompt(case: Any) -> None:
    content, observation = case
    assert prompt(user("x"), call("now", {}), result(content)).endswith(f"\n{observation}{END}")


def test_the_prompt() -> None:
    """One instruction contains the tools, the earlier turns, the request, and the calls after the
    request.
    """
    text = prompt(
        user("Hello,\nwho are you?"),
        answer("A model."),
        user("What time is it?\nTell me."),
        call("now", {}),
        result("12:00\nnoon"),
    )
    assert "> now:  Input: {" in text
    assert "> Detect the Give Object:  Input: image, object\n" in text
    names = ", ".join(TOOLS)
    assert f"Action: one of [{names}]\n" in text
    history = "Previous conversation:\nHuman: Hello,\n    who are you?\nAI: A model.\n\n"
    assert f"{history}New input: What time is it?\nTell me.\n" in text
    assert text.endswith(
        "\nThought: Do I need to use a tool? Yes\nAction: now\nAction Input: {}\n"
        f"Observation: 12:00\n    noon{END}"
    )
    assert text.count("### ") == 2


def test_the_prose_is_short() -> None:
    """Without tools and earlier turns, the prompt has at most 1,200 characters."""
    tool = {"type": "function", "function": {"name": "", "description": ""}}
    assert len(chat_prompt([user("")], tools=[tool])) - len(HEAD + END) <= 1200


def test_system_texts_replace_the_opening() -> None:
    text = prompt({"role": "system", "content": "Be brief."}, user("x"))
    assert text.startswith(HEAD + "Be brief.\n\nTOOLS:\n------\n\n")


def test_the_prose_of_another_training_set() -> None:
    prose = {"opening": "O", "lead": "L", "call": "C {names}", "answer": "A"}
    prose |= {"reminder": "R", "closing": "E"}
    (text,), _ = render_jinja_template(
        [[user("x")]], tools=DEFINITIONS[:1], chat_template=CHAT_TEMPLATE, tool_prose=prose
    )
    assert "O\n\nTOOLS:\n------\n\nL\n\n> " in text
    assert text.endswith(
        "C Detect the Give Object\n\nA\n\nR\n\nPrevious conversation:\n\nNew input: x\nE"
    )


def test_several_calls_have_a_block_each() -> None:
    calls = [call_of("now", {}, "a"), call_of("resize", {"width": 1}, "b")]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    text = prompt(user("x"), message, result("B", "b"), result("A", "a"))
    assert text.endswith(
        "Action: now\nAction Input: {}\nObservation: A\nThought: Do I need to use a tool? Yes\n"
        f'Action: resize\nAction Input: {{"width": 1}}\nObservation: B{END}'
    )


def test_ids_may_repeat_in_later_turns() -> None:
    text = prompt(user("x"), call("now", {}), result("one"), call("now", {}), result("two"))
    assert text.index("Observation: one") < text.index("Observation: two")


def test_earlier_calls_are_part_of_the_history() -> None:
    text = prompt(user("x"), call("now", {}), result("12"), answer("Noon."), user("Thanks."))
    steps = "Thought: Do I need to use a tool? Yes\nAction: now\nAction Input: {}\nObservation: 12"
    assert f"Human: x\n{steps}\nAI: Noon.\n\nNew input: Thanks.\n" in text


def test_without_tools_earlier_calls_remain() -> None:
    """If a client sends no tools with its last request, the prompt still has the earlier calls and
    results.
    """
    text = chat_prompt([user("x"), call("now", {}), result("12\n### Response:")])
    assert text == (
        f"{alpaca_prompt('x')}Thought: Do I need to use a tool? Yes\nAction: now\n"
        f"Action Input: {{}}\nObservation: 12\n    ### Response:{END}"
    )


def test_names_of_files() -> None:
    files: list[list[str]] = [["image/ab12cd34.png"], ["audio/00ff00ff.wav"]]
    (text,), _ = render_jinja_template(
        [[user("One?"), answer("Yes."), user("Two?")]],
        tools=DEFINITIONS,
        chat_template=CHAT_TEMPLATE,
        attachments=files,
    )
    assert (
        "Human: Provide an image named image/ab12cd34.png. Understand the image using tools.\n"
        "AI: Received.\nHuman: One?\nAI: Yes.\n"
        "Human: Provide a sound named audio/00ff00ff.wav. Understand the sound using tools.\n"
        "AI: Received.\n\nNew input: Two?\n"
    ) in text


@pytest.mark.parametrize(
    "messages",
    [
        [user("x"), result("42")],
        [user("x"), call("now", {})],
        [user("x"), call("now", {}), user("y")],
        [user("x"), call("now", {}), result("42", "other")],
        [user("x"), call("now", {}), result("42"), result("42")],
        [user("x"), call("now", {}), answer("y"), result("42")],
    ],
)
@pytest.mark.parametrize("tools", [DEFINITIONS, []], ids=["tools", "none"])
def test_each_call_has_one_result(messages: Any, tools: Any) -> None:
    with pytest.raises(TemplateError, match="tool"):
        chat_prompt(messages, tools=tools)


def test_a_result_never_looks_like_a_line_of_the_model() -> None:
    """All lines of a result after its first line are indented, so that only the template's lines
    begin at the margin.
    """
    rng = random.Random(0)
    marks = ["Thought: Do I need to use a tool? No", "AI: x", "### Response:", "Observation:", "x"]
    breaks = ["\n", "\r", "\r\n", "\u2028", "\x0b", "\x85", "\n\n"]
    before = prompt(user("x"), call("now", {}), result("")).removesuffix(END)
    for _ in range(300):
        content = "".join(rng.choice(marks) + rng.choice(breaks) for _ in range(4))
        text = prompt(user("x"), call("now", {}), result(content))
        rest = text.removeprefix(before).removesuffix(END)
        assert all(line.startswith("    ") for line in rest.splitlines()[1:])


def test_training_renders_the_reply() -> None:
    """With `generate=False`, the text is the prompt followed by the reply that training learns."""
    turns = [user("x")]
    reply = "Thought: Do I need to use a tool? Yes\nAction: now\nAction Input: {}\nObservation:"
    assert prompt(*turns, call("now", {}), generate=False) == prompt(*turns) + reply
    turns += [call("now", {}), result("12")]
    reply = "Thought: Do I need to use a tool? No\nAI: Noon."
    assert prompt(*turns, answer("Noon."), generate=False) == prompt(*turns) + reply


def random_schema(rng: random.Random) -> Any:
    kinds: list[Any] = [{"type": "string"}] * 20 + [{"type": "number"}, {}, True]
    names = rng.sample(["image", "text", "old", "new", "a\nb", "名"], rng.randint(0, 4))
    schema: dict[str, Any] = {"type": "object", "properties": {n: rng.choice(kinds) for n in names}}
    if rng.random() < 0.9:
        schema["required"] = names if rng.random() < 0.8 else names[1:]
        schema["required"] = rng.choice([schema["required"]] * 9 + ["image text", [{}], None])
    return rng.choice([schema] * 9 + [None])


def test_the_parser_reads_what_the_template_writes() -> None:
    """For random tools and arguments, the parser returns the arguments of the rendered call."""
    rng = random.Random(0)
    values = ["a", " b", "c, d", "", "{", '"', "x\ny", "一只猫", 3, None, {"k": ["v", "\u2028"]}]
    plain = 0
    for _ in range(400):
        schema = random_schema(rng)
        names = plain_names(schema)
        keys = names or rng.sample(["image", "n", "text"], rng.randint(0, 3))
        arguments = {key: rng.choice(values) for key in keys if rng.random() < 0.95}
        if rng.random() < 0.6:
            arguments = {key: rng.choice(["a.png", "cat", "x: y"]) for key in keys}
        tool = {"type": "function", "function": {"name": "t", "parameters": schema}}
        messages = [user("x"), call("t", arguments)]
        text = chat_prompt(messages, tools=[tool], generate=False)
        reply = Reply({"t": schema})
        start, *rest = [*reply.feed(text.split(END)[1]), *reply.finish()]
        assert start == CallStart("t")
        assert all(isinstance(event, CallArguments) for event in rest)
        joined = "".join(event.text for event in rest if isinstance(event, CallArguments))
        assert json.loads(joined) == arguments, (schema, text[-200:])
        line = text.rpartition("Action Input: ")[2].removesuffix("\nObservation:")
        assert joined == parse_line(line, names)
        plain += not line.startswith("{")
    assert plain > 30
