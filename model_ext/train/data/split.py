"""Split long dialogues into several examples, each with whole rounds."""

from collections.abc import Sequence
from dataclasses import replace

from model_ext.train.data.examples import Example
from model_ext.train.data.tokens import count_tokens
from model_ext.train.tokenizer import TextTokenizer


def split_long(
    examples: Sequence[Example], tokenizer: TextTokenizer, max_tokens: int
) -> list[Example]:
    """Split the examples that have more than `max_tokens` tokens and several rounds. Keep the
    others.
    """
    return [piece for example in examples for piece in split_rounds(example, tokenizer, max_tokens)]


def split_rounds(example: Example, tokenizer: TextTokenizer, max_tokens: int) -> list[Example]:
    """Split an example into pieces. Each piece has as many whole rounds as fit into `max_tokens`
    tokens.

    The id of a piece consists of the example's id and the number of the piece's first message. A
    round with more than `max_tokens` tokens is a separate piece, which is truncated later.
    """
    pieces, start = list[Example](), 0
    for end in range(2, len(example.turns) + 1):
        turns = example.turns[start:end]
        if len(turns) > 1 and count_tokens(turns, tokenizer, example.system) > max_tokens:
            pieces.append(piece(example, start, end - 1))
            start = end - 1
    return [*pieces, piece(example, start, len(example.turns))] if pieces else [example]


def piece(example: Example, start: int, end: int) -> Example:
    return replace(example, turns=example.turns[start:end], id=f"{example.id}_{2 * start}")
