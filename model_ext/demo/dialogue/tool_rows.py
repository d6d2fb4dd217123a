"""Make training rows with tool calls (OpenAI's form), and evaluation rows (GPT4Tools' form)."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from model_ext.demo.dialogue.tools import SEEN, DemoTool, Part, phrasings, things, tools
from model_ext.demo.texts import small_talk
from model_ext.train.data.conversations import dialogues

Row = dict[str, Any]
MAX_TOOLS = 4  # Maximum number of tools in a row.
# Share of the rows in which an earlier turn provides the file.
PROVIDED = 0.6
TASKS = {"seen": "Tools seen", "unseen": "Tools unseen", "none": "Tools none needed"}
ANSWER_TOKENS = 64


def call_row(tool: DemoTool, part: Part, rng: random.Random) -> Row:
    """Make a row with a request, the call of a tool, the call's result and the answer."""
    thing, other = rng.sample(things(part), 2)
    values = {"file": file_name(rng), "thing": thing, "other": other, "new": file_name(rng)}
    arguments = {name: values[name] for name in tool.arguments}
    call = {"name": tool.name, "arguments": arguments}
    messages: list[Row] = []
    if "file" in tool.arguments and rng.random() < PROVIDED:
        text = f"Provide an image named {values['file']}. Understand the image using tools."
        messages += [message("user", text), {**message("assistant", "Received."), "weight": 0}]
    calls = [{"id": "1", "type": "function", "function": call}]
    messages += [
        message("user", rng.choice(phrasings(tool, part)).format(**values)),
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": tool.result.format(**values)},
        message("assistant", tool.answer.format(**values)),
    ]
    return {"messages": messages, "tools": offered(tool, part, rng)}


def plain_row(prompt: str, answer: str, rng: random.Random) -> Row:
    """Make a row whose question needs none of its tools."""
    messages = [message("user", prompt), message("assistant", answer)]
    return {"messages": messages, "tools": offered(None, "train", rng)}


def message(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def file_name(rng: random.Random) -> str:
    return f"image/{rng.getrandbits(32):08x}.png"


def offered(tool: DemoTool | None, part: Part, rng: random.Random) -> list[Row]:
    """Return the definitions of the right tool and of some others, in random order."""
    others = [each for each in {*SEEN, *tools(part)} if each != tool]
    others.sort(key=lambda each: each.name)
    listed = rng.sample(others, rng.randint(1, MAX_TOOLS - 1)) + ([tool] if tool else [])
    rng.shuffle(listed)
    return [each.definition for each in listed]


def training_rows(count: int, seed: int = 0) -> Iterator[Row]:
    """Yield `count` rows with a call, and a third as many rows without a call. The latter use half
    of the small talk; the other half is held out.
    """
    rng = random.Random(f"train {seed}")
    talk = small_talk()[::2]
    for number in range(count):
        yield call_row(SEEN[number % len(SEEN)], "train", rng)
        if number % 3 == 0:
            yield plain_row(*talk[number // 3 % len(talk)], rng)


def questions(seen: int, unseen: int, none: int, seed: int = 0) -> Iterator[Row]:
    """Yield rows for `bindserve eval`: the prompt before the first reply, and the right reply."""
    rng = random.Random(f"test {seed}")
    parts: Sequence[tuple[Part, int]] = (("seen", seen), ("unseen", unseen))
    for part, count in parts:
        choices = tools(part)
        for number in range(count):
            row = call_row(choices[number % len(choices)], part, rng)
            yield question(TASKS[part], row)
    talk = small_talk()[1::2]
    for number in range(none):
        yield question(TASKS["none"], plain_row(*talk[number % len(talk)], rng))


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
