"""CLIP's byte-pair encoding in plain Python, with which tests compare `bpe.Tokenizer`."""

import heapq

from model_ext.imagebind.preprocess.bpe import (
    END,
    END_OF_WORD,
    START,
    WORDS,
    Pair,
    byte_letters,
    clean,
    vocabulary,
)


class Oracle:
    def __init__(self, merges: list[Pair]) -> None:
        self.ids = vocabulary(merges)
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.letters = byte_letters()
        self.start, self.end = self.ids[START], self.ids[END]

    def encode(self, text: str) -> list[int]:
        words = WORDS.findall(clean(text))
        return [self.ids[symbol] for word in words for symbol in self.symbols(word)]

    def symbols(self, word: str) -> list[str]:
        symbols = [self.letters[byte] for byte in word.encode()]
        symbols[-1] += END_OF_WORD
        return merge(symbols, self.ranks)


def merge(symbols: list[str], ranks: dict[Pair, int]) -> list[str]:
    """Merge pairs of neighboring symbols in order of rank, and from left to right for equal ranks.

    A heap contains the pairs, because a word can be 64 kB long.
    """
    here: list[str | None] = list(symbols)
    before = list(range(-1, len(symbols) - 1))
    after = list(range(1, len(symbols) + 1))
    heap: list[tuple[int, int, str, str]] = []

    def offer(left: int) -> None:
        right = after[left] if left >= 0 else len(here)
        if right < len(here):
            pair = (here[left] or "", here[right] or "")
            if pair in ranks:
                heapq.heappush(heap, (ranks[pair], left, *pair))

    for index in range(len(symbols)):
        offer(index)
    while heap:
        _, left, first, second = heapq.heappop(heap)
        right = after[left]
        if here[left] != first or right >= len(here) or here[right] != second:
            continue  # skip a pair that an earlier merge has changed
        here[left], here[right] = first + second, None
        after[left] = after[right]
        if after[left] < len(here):
            before[after[left]] = left
        offer(before[left])
        offer(left)
    return [symbol for symbol in here if symbol is not None]
