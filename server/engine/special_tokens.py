"""Split special tokens in clients' texts into characters, so that they are read as plain text.

A tokenizer reads `</s>` or `<|im_start|>` anywhere in a text as a special token. In a chat, only
the template may write these tokens. Otherwise, a client's text could end its own message and start
one in another role. Prompts of /v1/completions are raw and stay unchanged.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from typing import Any


def guard(tokenizer: Any) -> None:
    """Make the tokenizer split special tokens in all texts of chats, before the template is
    applied.

    Replaces the tokenizer's method `apply_chat_template`, which vLLM calls for every route.
    """
    apply, special = tokenizer.apply_chat_template, pattern(special_tokens(tokenizer))

    def apply_chat_template(conversation: Any, **options: Any) -> Any:
        texts = {name: value for name, value in options.items() if name != "chat_template"}
        return apply(split(conversation, special), **{**options, **split(texts, special)})

    tokenizer.apply_chat_template = apply_chat_template


def special_tokens(tokenizer: Any) -> set[str]:
    """Return all special tokens, including those without a name such as BOS or EOS, e.g. Llama 3's
    <|start_header_id|>.
    """
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """Return a regular expression that matches the first character of each token.

    Omits tokens of one character, which cannot be split.
    """
    rests = defaultdict(list)
    for token in tokens:
        if len(token) > 1:
            rests[token[0]].append(re.escape(token[1:]))
    # A pattern that begins with a literal is searched over 100 times as fast as one that begins
    # with a lookbehind.
    firsts = [f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items()]
    return re.compile("|".join(firsts) or "(?!)")


def split(value: Any, special: re.Pattern[str]) -> Any:
    """Copy `value`, and insert a space after the first character of every special token: `< /s>`.

    Also changes texts inside lists and dictionaries, and keys, because templates print the schemas
    of tools.
    """
    match value:
        case str():
            return special.sub(r"\g<0> ", value)
        case dict():
            return {split(key, special): split(each, special) for key, each in value.items()}
        case list() | tuple():
            return [split(each, special) for each in value]
    return value
