"""Token ids and labels of an example's texts.

This module depends on the tokenizer and the prompt template, but not on images or data files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model_ext.prompt import alpaca_prompt
from model_ext.train.lm.model import IGNORED
from model_ext.train.tokenizer import TextTokenizer

InstructionForm = Literal["plain", "released"]


@dataclass(frozen=True, slots=True)
class Turn:
    instruction: str
    answer: str
    input: str = ""


@dataclass(frozen=True, slots=True)
class Dialogue:
    turns: tuple[Turn, ...]
    system: str = ""  # the text before the prompt, with the empty line that follows the text
    id: str = ""


@dataclass(frozen=True, slots=True)
class TokenizedSample:
    """One sample without padding: ids and labels of equal length. The label 0 means that the
    position is no target.
    """

    ids: Tensor
    labels: Tensor


def tokenize(
    turns: Sequence[Turn],
    tokenizer: TextTokenizer,
    max_tokens: int,
    form: InstructionForm = "plain",
    system: str = "",
) -> TokenizedSample:
    """Join BOS, `system`, prompt, answer and EOS without spaces, and truncate to max_tokens.

    Truncation can remove EOS. Labels are masked for as many positions as the prompt has tokens
    without the answer. If a token spans prompt and answer, this is off by one, as in the released
    code. Later turns use the chat template. The answers of all turns are targets.
    """
    # borders: for each answer, the dialogue's text up to the answer's start and up to its end
    text, borders = system, []
    for number, turn in enumerate(turns):
        text += _prompt(turn, form) if number == 0 else _next_prompt(turn)
        with_answer = text + turn.answer
        borders.append((text, with_answer))
        text = with_answer
    ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
    labels = [IGNORED] * len(ids)
    for number, (before, after) in enumerate(borders):
        start = 1 + len(tokenizer.encode(before))
        last = number == len(borders) - 1
        stop = len(ids) if last else 1 + len(tokenizer.encode(after))
        labels[start:stop] = ids[start:stop]
    return TokenizedSample(torch.tensor(ids[:max_tokens]), torch.tensor(labels[:max_tokens]))


def count_tokens(turns: Sequence[Turn], tokenizer: TextTokenizer, system: str = "") -> int:
    """Return all tokens of a dialogue, with BOS and EOS. Nothing is truncated."""
    first, *rest = turns
    text = system + _prompt(first, "plain") + first.answer
    text += "".join(_next_prompt(turn) + turn.answer for turn in rest)
    return len(tokenizer.encode(text)) + 2


def _prompt(turn: Turn, form: InstructionForm) -> str:
    """Format the first turn. If `form` is "released", the prompt contains the instruction as a
    Python tuple, as in the released code.
    """
    instruction = repr((turn.instruction,)) if form == "released" else turn.instruction
    return alpaca_prompt(instruction, turn.input)


def _next_prompt(turn: Turn) -> str:
    context = f"\n\n### Input:\n{turn.input}" if turn.input else ""
    return f"\n\n### Instruction:\n{turn.instruction}{context}\n\n### Response:"


def pad(samples: Sequence[TokenizedSample], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Pad ids and labels with zeros on the right to (B, L). L is `length` or the length of the
    longest sample.
    """
    length = length or max(len(sample.ids) for sample in samples)
    ids = torch.zeros(len(samples), length, dtype=torch.int64)
    labels = torch.full((len(samples), length), IGNORED)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = sample.ids
        labels[row, : len(sample.labels)] = sample.labels
    return ids, labels
