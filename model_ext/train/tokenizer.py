"""The tokenizer of a base model: Meta's `tokenizer.model` or Hugging Face's `tokenizer.json`.

Used for training data and for generation. This module does not depend on prompts, labels or the
model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from model_ext.train.errors import TrainError
from model_ext.weights.json_file import read_json


class TextTokenizer(Protocol):
    bos: int
    eos: int

    def encode(self, text: str) -> list[int]:
        """Return token ids without BOS and EOS."""

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
    """Hugging Face's `tokenizer.json`. `tokenizer_config.json` names the special tokens."""

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
    """Open `tokenizer.json`, or a SentencePiece file with any other name.

    Raises TrainError: when a special token is not in the vocabulary.
    """
    return FastTokenizer(path.parent) if path.suffix == ".json" else SentencePieceTokenizer(path)
