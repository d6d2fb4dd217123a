"""Turn a row of a JSON file into training examples.

Reads Alpaca's rows (GPT4Tools' rows have the same keys), conversations of LLaVA and ShareGPT, and
OpenAI's messages with or without tool calls. This module does not open pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from jinja2.exceptions import TemplateError

from model_ext.prompt import WITH_INPUT, WITHOUT_INPUT, chat_prompt, flatten, without_marks
from model_ext.tool_parsers.arguments import template_arguments
from model_ext.train.data.tokens import Dialogue, Turn

Turns = Literal["first", "every", "all"]

IMAGE = "<image>"
ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant"), "assistant"),
    "system": "system",
}
END = "\n\n### Response:"


class RowError(ValueError):
    """A row is invalid. The message says why; the caller adds the file and the row's number."""


def dialogues(row: Mapping[str, Any], turns: Turns, image_mark: bool = False) -> list[Dialogue]:
    """Return the dialogues to learn from a row.

    `turns`: the rounds of a conversation to learn: only the first round, every round as a separate
    dialogue, or all rounds as one dialogue. `image_mark`: whether LLaVA's mark `<image>` stays in
    the question. Rows of messages with tools give one dialogue per assistant message.
    Raises RowError, KeyError, TypeError, AttributeError: when the row is broken.
    """
    if "messages" in row:
        messages = [message_of(message) for message in row["messages"]]
        if row.get("tools"):
            rounds = replies(messages, row["tools"])
            return rounds[:1] if turns == "first" else rounds
        if any(message.get("weight") == 0 for message in messages):
            raise RowError("`weight` is only for messages of rows with tools")
        dialogue = rounds_of(messages)
    elif "conversations" in row:
        dialogue = rounds_of([conversation_message(each) for each in row["conversations"]])
        if not image_mark:
            first = dialogue.turns[0]
            question = without_mark(first.instruction)
            dialogue = replace(
                dialogue, turns=(replace(first, instruction=question), *dialogue.turns[1:])
            )
    else:
        context = flatten(str(row.get("input") or ""))
        return [Dialogue((Turn(str(row["instruction"]), str(row["output"]), context),))]
    return select(replace(dialogue, id=str(row.get("id", ""))), turns)


def select(dialogue: Dialogue, turns: Turns) -> list[Dialogue]:
    if turns == "all":
        return [dialogue]
    rounds = dialogue.turns[:1] if turns == "first" else dialogue.turns
    return [replace(dialogue, turns=(each,)) for each in rounds]


def conversation_message(message: Mapping[str, Any]) -> dict[str, str]:
    role = ROLES.get(str(message["from"]))
    if role is None:
        raise RowError(f"unknown role {message['from']!r}; expected one of {', '.join(ROLES)}")
    return {"role": role, "content": str(message["value"])}


def without_mark(question: str) -> str:
    """Remove LLaVA's mark `<image>`, and the line feed between the mark and the text."""
    for mark in (f"{IMAGE}\n", f"\n{IMAGE}", IMAGE):
        question = question.replace(mark, "")
    return question


def message_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose text parts are joined by line feeds, as a server joins them. The key
    `context` has the message's context parts.
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    texts = [str(part["text"]) for part in parts if part["type"] == "text"]
    contexts = [str(part["text"]) for part in parts if part["type"] == "context"]
    if len(texts) + len(contexts) < len(parts):
        raise RowError("a content part is neither text nor context; name a picture in `image`")
    context = "\n".join(flat for each in contexts if (flat := flatten(each)))
    calls = [call_of(call) for call in message.get("tool_calls") or ()]
    return {**message, "content": "\n".join(texts), "context": context, "tool_calls": calls}


def call_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call whose arguments have the form that the chat template reads."""
    function = call["function"]
    arguments = function.get("arguments") or ""
    if isinstance(arguments, str):
        arguments = template_arguments(arguments)
    return {**call, "function": {**function, "arguments": arguments}}


def rounds_of(messages: Sequence[Mapping[str, Any]]) -> Dialogue:
    """Pair the questions and answers. Drops a leading answer and a trailing question.

    Raises RowError: when the roles do not alternate otherwise.
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    if rest and rest[0]["role"] == "assistant":
        rest = rest[1:]
    if rest and rest[-1]["role"] == "user":
        rest = rest[:-1]
    for number, message in enumerate(rest):
        if message["role"] != ("assistant" if number % 2 else "user"):
            raise RowError(f"message {number}: questions and answers must alternate")
    if not rest:
        raise RowError("a conversation needs a question and an answer")
    turns = tuple(
        Turn(question["content"], answer["content"], question.get("context", ""))
        for question, answer in zip(rest[::2], rest[1::2], strict=True)
    )
    return Dialogue(turns, "".join(f"{text}\n\n" for text in system))


def as_served(message: dict[str, Any]) -> dict[str, Any]:
    """A message as the server passes it to the chat template: a tool's result without marks."""
    if message["role"] != "tool":
        return message
    return {**message, "content": without_marks(message["content"])}


def replies(messages: Sequence[dict[str, Any]], tools: Sequence[Any]) -> list[Dialogue]:
    """The prompt and the reply of each assistant message, rendered as a server renders them.
    Messages with OpenAI's key `"weight": 0` are skipped.

    Raises RowError: when the chat template rejects the messages.
    """
    examples = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == 0:
            continue
        before = [as_served(each) for each in messages[:index]]
        contexts = [each["context"] for each in before if each["role"] == "user"]
        try:
            prompt = chat_prompt(before, tools=tools, contexts=contexts)
            whole = chat_prompt([*before, message], tools=tools, contexts=contexts, generate=False)
        except TemplateError as error:
            raise RowError(str(error)) from None
        examples.append(Dialogue((turn_of(prompt, whole.removeprefix(prompt)),)))
    if not examples:
        raise RowError("no message of the role assistant is to be learned")
    return examples


def turn_of(prompt: str, reply: str) -> Turn:
    """Split a rendered prompt into its instruction and its Input slot."""
    template = WITH_INPUT if prompt.startswith(WITH_INPUT.partition("{")[0]) else WITHOUT_INPUT
    text = prompt.removeprefix(template.partition("{")[0]).removesuffix(END)
    if template is WITHOUT_INPUT:
        return Turn(text, reply)
    instruction, _, context = text.rpartition("\n\n### Input:\n")
    return Turn(instruction, reply, context)
