"""A tokenizer whose tokens are letters."""

from collections.abc import Sequence


class Letters:
    bos, eos = 1, 2

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))
