"""Make training rows with tool calls (OpenAI's form), and evaluation rows (GPT4Tools' form)."""

import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from model_ext.demo.dialogue.more_tools import more_tools
from model_ext.demo.dialogue.tools import SEEN, DemoTool, Part, phrasings, tools
from model_ext.demo.dialogue.values import FOLDERS, file_name, values
from model_ext.demo.texts import CHAT, LINES, a, small_talk
from model_ext.train.data.conversations import dialogues

Row = dict[str, Any]
MAX_TOOLS = 4  # Maximum number of tools in a row.
# Share of the rows in which an earlier turn provides the file.
PROVIDED = 0.6
POINTED = 0.4  # Share of these training rows whose request says "this picture", not the name.
CHATTED, OTHER_FILE = 0.15, 0.1  # Shares of the training rows with these earlier turns.
CONFUSED = 0.5  # Share of the training rows whose other tools are similar to the right one.
WORD = {"file": "image", "sound": "sound", "clip": "video", "document": "file"}
POINTERS = ("this {}", "the {}", "it")
FRAMES = (
    *("{}",) * 8,
    *("Hello. {}", "{} Thank you!", "Next task: {}", "One more thing: {}", "{} It is urgent."),
)
# Frames for requests that are commands. The request begins with its verb, in lower case.
POLITE = (
    *("Could you {}?", "Can you {}?", "Would you {}?", "I want you to {}.", "I need you to {}."),
    *("I would like you to {}.", "Please {}.", "It would be good if you could {}."),
)
ASKED_POLITELY = 0.3  # Share of the training commands that have such a frame.
NO_COMMAND = frozenset(  # First words of statements, and of commands that need another frame.
    [
        "a",
        "from",
        "gray",
        "i",
        "in",
        "instead",
        "it",
        "let",
        "my",
        "nobody",
        "on",
        "please",
        "somewhere",
        "the",
        "there",
        "we",
    ]
)
TASKS = {"seen": "Tools seen", "unseen": "Tools unseen", "none": "Tools none needed"}
ANSWER_TOKENS = 64


def call_row(tool: DemoTool, part: Part, rng: random.Random) -> Row:
    """Make a row with a request, the call of a tool, the call's result and the answer."""
    drawn = values("train" if part == "train" else "test", rng)
    messages = before(part, rng)
    text = rng.choice(phrasings(tool, part))
    file = next((kind for kind in tool.arguments if kind in FOLDERS), None)
    if file is not None and rng.random() < PROVIDED:
        messages += provided(file, str(drawn[file]))
        if part == "train" and rng.random() < POINTED:
            text = text.replace(f"{{{file}}}", rng.choice(POINTERS).format(WORD[file]))
    if part == "train":
        text = rng.choice(FRAMES).format(polite(text, rng))
    messages += [message("user", text.format(**drawn)), *call(tool, drawn, "1")]
    return {"messages": messages, "tools": offered(tool, part, rng)}


def polite(text: str, rng: random.Random) -> str:
    """Return a command as a polite request or as a wish, and other texts as they are."""
    verb, _, rest = text.partition(" ")
    is_command = verb.isalpha() and verb.lower() not in NO_COMMAND and text.endswith(".")
    if not is_command or "." in rest[:-1] or rng.random() > ASKED_POLITELY:
        return text
    return rng.choice(POLITE).format(f"{verb.lower()} {rest[:-1]}")


def call(tool: DemoTool, drawn: dict[str, str | int], number: str) -> list[Row]:
    """Return the messages of a call, its result and the answer."""
    values_of = {name: drawn[kind] for name, kind in zip(tool.names, tool.arguments, strict=True)}
    function = {"name": tool.name, "arguments": values_of}
    return [
        {
            **message("assistant", ""),
            "tool_calls": [{"id": number, "type": "function", "function": function}],
        },
        {**message("tool", tool.result.format(**drawn)), "tool_call_id": number},
        message("assistant", tool.answer.format(**drawn)),
    ]


def provided(kind: str, name: str) -> list[Row]:
    """Return the turn that provides a file, as the server writes it for an attachment."""
    word = WORD[kind]
    article = "an" if word == "image" else "a"
    text = f"Provide {article} {word} named {name}. Understand the {word} using tools."
    return [message("user", text), {**message("assistant", "Received."), "weight": 0}]


def before(part: Part, rng: random.Random) -> list[Row]:
    """Return the earlier turns of a training conversation: often none, else small talk, another
    file, or both. They are not learned.
    """
    turns: list[Row] = []
    if part == "train" and rng.random() < CHATTED:
        prompt, answer = rng.choice(small_talk()[::2])
        turns += [message("user", prompt), {**message("assistant", answer), "weight": 0}]
    if part == "train" and rng.random() < OTHER_FILE:
        kind = rng.choice(list(FOLDERS))
        turns += provided(kind, file_name(rng, kind))
    return turns


def plain_row(prompt: str, answer: str, rng: random.Random, part: Part = "train") -> Row:
    """Make a row whose question needs none of its tools."""
    messages = [*before(part, rng), message("user", prompt), message("assistant", answer)]
    return {"messages": messages, "tools": offered(None, part, rng)}


def message(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def offered(tool: DemoTool | None, part: Part, rng: random.Random) -> list[Row]:
    """Return the definitions of the right tool and of some others, in random order. Half of the
    training rows offer tools that are easily confused.
    """
    similar = {tool.name, tool.description} if tool else set()
    confuses = part == "train" and rng.random() < CONFUSED
    eligible = alike(tool) if confuses else choices(part)
    others = [each for each in eligible if not {each.name, each.description} & similar]
    count = min(rng.randint(1, MAX_TOOLS - 1), len(others))
    listed = rng.sample(others, count) + ([tool] if tool else [])
    rng.shuffle(listed)
    return [each.definition for each in listed]


@cache
def alike(tool: DemoTool | None) -> tuple[DemoTool, ...]:
    """Return the training tools that are easily confused with a tool: for those of SEEN, SEEN, and
    for others, those with the same kinds of arguments.
    """
    if tool is None or tool in SEEN:
        return SEEN
    kinds = set(tool.arguments)
    return tuple(each for each in choices("train") if set(each.arguments) == kinds)


@cache
def choices(part: Part) -> tuple[DemoTool, ...]:
    """Return the tools that may be offered, in the order of their names."""
    more = more_tools() if part == "train" else ()
    return tuple(sorted({*SEEN, *tools(part), *more}, key=lambda each: each.name))


def training_rows(count: int, seed: int = 0) -> Iterator[Row]:
    """Yield `count` rows with a call, and half as many rows without a call. Half of the calls are
    of the tools of SEEN.
    """
    rng = random.Random(f"train {seed}")
    more, talk = more_tools(), untooled()
    for number in range(count):
        tool = SEEN[number // 2 % len(SEEN)] if number % 2 == 0 else rng.choice(more)
        yield call_row(tool, "train", rng)
        if number % 2 == 1:
            yield plain_row(*rng.choice(talk), rng)


def untooled() -> list[tuple[str, str]]:
    """Return prompts that need no tool, and their answers. The small talk among them is the half
    that the evaluation does not use.
    """
    held_out = {prompt for prompt, _ in small_talk()[1::2]}
    talk = [*small_talk()[::2], *CHAT.items()]
    for concept, line in LINES.items():
        name = a(concept)
        verb = "are" if name == concept else "is"
        talk += [(f"What {verb} {name}?", line), (f"Tell me about {name}.", line)]
        talk.append((f"Say one sentence about {name}.", line))
    for first in range(2, 12):
        for second in range(1, first):
            talk.append((f"What is {first} + {second}?", f"It is {first + second}."))
            talk.append((f"What is {first} minus {second}?", f"It is {first - second}."))
    return [(prompt, answer) for prompt, answer in talk if prompt not in held_out]


def plain_form(row: Row) -> Iterator[Row]:
    """Yield a row in GPT4Tools' form, with the whole prompt, for each reply of a row of
    messages.
    """
    for dialogue in dialogues(row, "all"):
        (turn,) = dialogue.turns
        yield {"instruction": turn.instruction, "input": turn.input, "output": turn.answer}


def questions(seen: int, unseen: int, none: int, seed: int = 0) -> Iterator[Row]:
    """Yield rows for `bindserve eval`: the prompt before the first reply, and the right reply."""
    rng = random.Random(f"test {seed}")
    parts: Sequence[tuple[Part, int]] = (("seen", seen), ("unseen", unseen))
    for part, count in parts:
        listed = tools(part)
        for number in range(count):
            row = call_row(listed[number % len(listed)], part, rng)
            yield question(TASKS[part], row)
    talk = small_talk()[1::2]
    for number in range(none):
        row = plain_row(*talk[number % len(talk)], rng, "seen")
        yield question(TASKS["none"], row)


def question(task: str, row: Row) -> Row:
    """Make an evaluation row from a training row: the question is the whole prompt, and the answer
    is the first reply.
    """
    (turn,) = dialogues(row, "first")[0].turns
    return {
        **{"task": task, "question": turn.instruction, "answers": [turn.answer]},
        **{"metric": "tool_success", "max_tokens": ANSWER_TOKENS},
    }


def to_lines(rows: Iterator[Row]) -> str:
    return "".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(rows))
