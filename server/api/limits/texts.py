"""Limit the length of the texts that the language model reads, before code with a cost per
character reads them: the chat template and the tokenizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import BadRequest

# The fields of all routes whose texts become parts of the prompt.
FIELDS = ("prompt", "messages", "input", "system", "instructions")


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """The size of the model's context."""

    tokens: int
    characters: int  # No prompt with more characters has `tokens` tokens or fewer.


def prompt_limits(engine: Any) -> PromptLimits | None:
    """Return the limits of a prompt. None if the engine has no tokenizer.

    `engine`: vLLM's engine client.
    """
    tokenizer = engine.renderer.tokenizer
    if tokenizer is None:
        return None
    tokens = engine.vllm_config.model_config.max_model_len
    return PromptLimits(tokens, tokens * tokenizer.max_chars_per_token)


def check_texts(document: Mapping[str, Any], limits: PromptLimits | None) -> None:
    """Check the number of messages and the length of the texts in a request whose attachments have
    been removed. The template writes at least one token for each message.

    `limits`: None for no limit. Raises BadRequest.
    """
    if limits is None:
        return
    for field in FIELDS:
        value = document.get(field)
        if messages_of(value) > limits.tokens:
            raise too_long(field, f"{messages_of(value)} messages", limits.tokens)
        if length_of(value) > limits.characters:
            raise too_long(field, f"{length_of(value)} characters", limits.characters)


def too_long(field: str, size: str, maximum: int) -> BadRequest:
    return BadRequest(
        f"{field} has {size}, and the model's context has at most {maximum}",
        param=field,
        code="context_length_exceeded",
    )


def messages_of(value: Any) -> int:
    """Return the number of messages in a field."""
    return sum(isinstance(each, dict) for each in value) if isinstance(value, list) else 0


def length_of(value: Any) -> int:
    """Return the characters of a text, of the longest text in a list, or of all messages of a
    dialogue. 0 for other values, which are rejected later.
    """
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, list):
        return 0
    longest = max((len(each) for each in value if isinstance(each, str)), default=0)
    return max(longest, sum(text_length(each) for each in value if isinstance(each, dict)))


def text_length(message: Mapping[str, Any]) -> int:
    """Return the characters of a message, of a content part, or of a tool's result."""
    texts = (message.get(name) for name in ("content", "text", "output"))
    return sum(len(text) if isinstance(text, str) else length_of(text) for text in texts)
