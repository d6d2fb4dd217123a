"""Special tokens in clients' texts: taken apart, so that a text stays a text.

A tokenizer reads `</s>` or `<|im_start|>` as its own token, wherever it stands. In a chat only the
template may write those: a text that could would end its turn and speak in another role. Prompts of
/v1/completions are raw, as its clients expect, and are left alone.
"""

import re
from collections.abc import Collection
from typing import Any


def guard(tokenizer: Any) -> None:
    """All that vLLM renders as a chat, for whatever route, comes through `apply_chat_template`."""
    apply, special = tokenizer.apply_chat_template, pattern(special_tokens(tokenizer))

    def apply_chat_template(conversation: Any, **options: Any) -> Any:
        texts = {name: value for name, value in options.items() if name != "chat_template"}
        return apply(apart(conversation, special), **{**options, **apart(texts, special)})

    tokenizer.apply_chat_template = apply_chat_template


def special_tokens(tokenizer: Any) -> set[str]:
    """Also those without a name of their own, like Llama 3's <|start_header_id|>."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """Every place after the first character of a token. One of a single character has none."""
    inside = [f"(?<={re.escape(t[0])})(?={re.escape(t[1:])})" for t in tokens if len(t) > 1]
    return re.compile("|".join(inside) or "(?!)")


def apart(value: Any, special: re.Pattern[str]) -> Any:
    """A copy in which every text, at any depth, has a space after a special token's first
    character: `< /s>`. Keys too: templates print the schemas of tools."""
    match value:
        case str():
            return special.sub(" ", value)
        case dict():
            return {apart(key, special): apart(each, special) for key, each in value.items()}
        case list() | tuple():
            return [apart(each, special) for each in value]
    return value
