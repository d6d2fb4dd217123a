"""From an example's texts to token ids and labels.

Knows tokenizers and the prompt. Does not know images or files of data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
from torch import Tensor

from model_ext.prompt import alpaca_prompt
from model_ext.train.errors import TrainError
from model_ext.train.lm.model import IGNORED
from model_ext.weights.json_file import read_json

InstructionForm = Literal["plain", "released"]


@dataclass(frozen=True, slots=True)
class Turn:
    instruction: str
    answer: str
    input: str = ""


class TextTokenizer(Protocol):
    bos: int
    eos: int

    def encode(self, text: str) -> list[int]:
        """Ids without BOS and EOS."""

    def decode(self, ids: Sequence[int]) -> str: ...


class SentencePieceTokenizer:
    """Meta's `tokenizer.model`."""

    def __init__(self, path: Path) -> None:
        self._pieces = SentencePieceProcessor(model_file=str(path))
        self.bos, self.eos = self._pieces.bos_id(), self._pieces.eos_id()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._pieces.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._pieces.decode(list(ids))
        return text


class FastTokenizer:
    """Hugging Face's `tokenizer.json`, special tokens named in `tokenizer_config.json`."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = read_json(folder / "tokenizer_config.json")
        self.bos, self.eos = (self._id(config, key) for key in ("bos_token", "eos_token"))

    def _id(self, config: dict[str, object], key: str) -> int:
        token = config.get(key)
        text = token["content"] if isinstance(token, dict) else token
        number = self._tokenizer.token_to_id(text) if isinstance(text, str) else None
        if number is None:
            raise TrainError(f"tokenizer_config.json: {key} {text!r} is not in the vocabulary")
        return int(number)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids))
        return text


def open_tokenizer(path: Path) -> TextTokenizer:
    """`tokenizer.model` or `tokenizer.json`."""
    return FastTokenizer(path.parent) if path.suffix == ".json" else SentencePieceTokenizer(path)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample, not padded: ids and labels of the same length; label 0 is no target."""

    ids: Tensor
    labels: Tensor


def encode(
    turns: Sequence[Turn],
    tokenizer: TextTokenizer,
    max_tokens: int,
    form: InstructionForm = "plain",
) -> Encoded:
    """BOS, prompt and answer joined without a space, EOS; cut to max_tokens (EOS may be cut).

    The prompt is tokenised on its own to find how many labels to mask; where tokens merge across
    the joint, the border is off by one, as in the released code. Later turns go on as in the chat
    template, each answer supervised.
    """
    text, borders = "", []  # borders: (text up to the answer, text with the answer)
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
    return Encoded(torch.tensor(ids[:max_tokens]), torch.tensor(labels[:max_tokens]))


def _prompt(turn: Turn, form: InstructionForm) -> str:
    """`released` wraps the instruction of a text-only sample in a tuple, as that code did."""
    instruction = repr((turn.instruction,)) if form == "released" else turn.instruction
    return alpaca_prompt(instruction, turn.input)


def _next_prompt(turn: Turn) -> str:
    return f"\n\n### Instruction:\n{turn.instruction}\n\n### Response:"


def pad(encoded: Sequence[Encoded], length: int | None = None) -> tuple[Tensor, Tensor]:
    """(B, L) ids and labels, zeros on the right; L is the longest, or `length`."""
    length = length or max(len(one.ids) for one in encoded)
    ids = torch.zeros(len(encoded), length, dtype=torch.int64)
    labels = torch.full((len(encoded), length), IGNORED)
    for row, one in enumerate(encoded):
        ids[row, : len(one.ids)] = one.ids
        labels[row, : len(one.labels)] = one.labels
    return ids, labels
