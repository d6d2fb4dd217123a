"""Contexts: texts for the Input slot (the section `### Input:` of the prompt) of a user turn.

A client sends such a text as a content part {"type": "context", "text"}; expert models add their
texts with `Contexts.add`. The chat template prints the texts (model_ext/chat_template.jinja). This
module does not depend on vLLM.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model_ext.prompt import flatten
from server.errors import BadRequest
from server.media.attachments import CONTEXT, Json, as_text

MESSAGE = re.compile(r"(?:messages|input)\[(\d+)\]")
# Blocks of Anthropic's user messages that vLLM turns into messages of role tool.
RESULTS = frozenset({"tool_result"})

# Tokenizes a text: returns the position in the text at which each token starts.
TokenStarts = Callable[[str], list[int]]


@dataclass(slots=True)
class Contexts:
    starts: TokenStarts
    max_tokens: int  # The maximum number of tokens of each text.
    # Index of a user message -> number of its turn.
    turns: dict[int, int] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)  # Number of a turn -> its texts.
    # For each turn, the names of its files. The model passes a file to a tool by its name.
    files: list[list[str]] = field(default_factory=list)

    def add(self, param: str, text: str) -> str:
        """Flatten and shorten a text, and add it to the turn of the attachment at `param`, e.g.
        `messages[2].content[0]`. An uploaded file that no content part refers to belongs to the
        last turn.

        Returns the text that was added.
        """
        turn = self.turn_of(param)
        if (text := shorten(flatten(text), self.max_tokens, self.starts)) and turn >= 0:
            self.texts.setdefault(turn, []).append(text)
        return text

    @property
    def last(self) -> int:
        """The number of the last turn. -1 if there are no user turns."""
        return len(self.turns) - 1

    def turn_of(self, param: str) -> int:
        """Return the number of the turn with the attachment at `param`. A file in a tool's result
        belongs to the turn before the result.
        """
        index = message_index(param)
        if index is None:
            return self.last
        return max(0, bisect_right(list(self.turns), index) - 1) if self.turns else -1

    def values(self) -> list[str]:
        """Return the Input slot of each turn, or an empty list if no turn has one."""
        if not self.texts:
            return []
        return ["\n".join(self.texts.get(turn, [])) for turn in range(len(self.turns))]


def message_index(param: str) -> int | None:
    """Return the index of the message that contains `param`, or None if no message does."""
    position = MESSAGE.match(param)
    return int(position[1]) if position else None


def take_contexts(messages: Any, contexts: Contexts, *, where: str) -> None:
    """Move the context parts of messages to `contexts`. The attachments have already been removed
    from the messages.

    `where`: the request's field with the messages.
    Raises BadRequest: when a part has no text, too many tokens, or another role than user.
    """
    if not isinstance(messages, list):  # The `input` of a Responses request may be a string.
        contexts.turns[0] = 0
        return
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        if is_turn(message):
            contexts.turns[index] = len(contexts.turns)
        content = message.get("content")
        if isinstance(content, list) and any(map(is_context, content)):
            message["content"] = as_text([part for part in content if not is_context(part)])
            for part in filter(is_context, content):
                param = f"{where}[{index}].content"
                if index not in contexts.turns:
                    raise BadRequest("a context part belongs in a user message", param=param)
                contexts.add(f"{where}[{index}]", read_context(part, param, contexts))


def is_turn(message: Json) -> bool:
    """Whether the chat template counts the message as a user turn."""
    content = message.get("content")
    only_results = (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and part.get("type") in RESULTS for part in content)
    )
    return message.get("role") == "user" and not only_results


def is_context(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == CONTEXT


def read_context(part: Json, param: str, contexts: Contexts) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRequest("the text of a context part must be a string", param=f"{param}.text")
    if len(shorten(text, contexts.max_tokens, contexts.starts)) < len(text):
        raise BadRequest(
            f"a context part has more than {contexts.max_tokens} tokens; shorten its text",
            param=param,
        )
    return text


def shorten(text: str, max_tokens: int, starts: TokenStarts) -> str:
    """Return the longest beginning of the text with at most `max_tokens` tokens."""
    # Cut a much longer text before the tokenizer reads it.
    text = text[: 32 * max_tokens]
    positions = starts(text)
    return text if len(positions) <= max_tokens else text[: positions[max_tokens]]
