"""CLIP's byte-pair tokenizer: text -> ids, without start and end marks.

The vocabulary is a data file of the package open_clip_torch, which is never imported (it would
import torchvision).
"""

import gzip
import heapq
import html
import importlib.metadata
from functools import lru_cache

import ftfy
import regex

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
PACKAGE = "open_clip_torch"
MERGES = 48_894
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"

# English clitics, runs of letters, single digits, runs of anything else but space.
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
PLAIN = regex.compile(PIECES)
WITH_MARKS = regex.compile(rf"{regex.escape(START)}|{regex.escape(END)}|{PIECES}")

Pair = tuple[str, str]


class Tokenizer:
    def __init__(self, merges: list[Pair]) -> None:
        letters = list(byte_letters().values())
        symbols = letters + [letter + END_OF_WORD for letter in letters]
        symbols += ["".join(pair) for pair in merges] + [START, END]
        self.ids = {symbol: number for number, symbol in enumerate(symbols)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.letters = byte_letters()
        self.start, self.end = self.ids[START], self.ids[END]

    @classmethod
    def load(cls) -> "Tokenizer":
        return _load()

    def encode(self, text: str, *, most: int, marks: bool = False) -> list[int]:
        """At least the first `most` ids, if there are as many.

        A start or end mark that someone typed is text like any other, unless `marks`.
        """
        ids: list[int] = []
        for piece in (WITH_MARKS if marks else PLAIN).findall(clean(text)):
            if len(ids) >= most:
                break
            ids += [self.ids[symbol] for symbol in self.symbols(piece)]
        return ids

    def symbols(self, piece: str) -> list[str]:
        """Byte-pair merges of one piece, best rank first, leftmost first among equals."""
        if piece in (START, END):
            return [piece]
        symbols = [self.letters[byte] for byte in piece.encode()]
        symbols[-1] += END_OF_WORD
        return merge(symbols, self.ranks)


def merge(symbols: list[str], ranks: dict[Pair, int]) -> list[str]:
    """Join neighbors in order of rank. A heap, because a word may be 64 kB long."""
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
            continue  # one of the two has become part of another pair meanwhile
        here[left], here[right] = first + second, None
        after[left] = after[right]
        if after[left] < len(here):
            before[after[left]] = left
        offer(before[left])
        offer(left)
    return [symbol for symbol in here if symbol is not None]


def clean(text: str) -> str:
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_letters() -> dict[int, str]:
    """A printable character for every byte, in the order of the vocabulary's first 256 ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _load() -> Tokenizer:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if file.name == VOCABULARY]
    if not found:
        raise FileNotFoundError(f"the package {PACKAGE} has no file {VOCABULARY}; reinstall it")
    with gzip.open(str(found[0].locate()), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 1 + MERGES]
    merges: list[Pair] = []
    for line in lines:
        first, second = line.split()
        merges.append((first, second))
    return Tokenizer(merges)
