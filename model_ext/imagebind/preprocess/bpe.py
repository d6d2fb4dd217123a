"""CLIP's byte-pair tokenizer: text -> token ids, without start and end marks.

The `tokenizers` library merges the bytes of a word. This module cleans the text, splits it into
words, and reads the vocabulary. The folder `clip` contains the vocabulary and its licence.
"""

import gzip
import html
from functools import lru_cache
from itertools import islice
from pathlib import Path

import ftfy
import regex
from tokenizers.models import BPE

VOCABULARY = Path(__file__).with_name("clip") / "bpe_simple_vocab_16e6.txt.gz"
MERGES = 48_894  # number of merges that CLIP uses, of the 262,144 in the file
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"

# A word is an English clitic ('s), a run of letters, one digit, or a run of other characters except
# white space. The library `regex` splits the words, because the `tokenizers` library has tables of
# an older Unicode version.
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")

Pair = tuple[str, str]


class Tokenizer:
    def __init__(self, merges: list[Pair]) -> None:
        ids = vocabulary(merges)
        self.start, self.end = ids[START], ids[END]
        self._model = BPE(ids, merges, end_of_word_suffix=END_OF_WORD)
        self._letters = byte_letters()

    @classmethod
    def load(cls) -> "Tokenizer":
        """Return the tokenizer of CLIP's vocabulary; the process reads the file once."""
        return _load()

    def encode(self, text: str, *, min_ids: int) -> list[int]:
        """Encode whole words until there are `min_ids` ids, or the text ends.

        If the text contains the characters of a start or end mark, they are encoded as ordinary
        characters, so that clients cannot insert marks.
        """
        ids: list[int] = []
        for word in WORDS.finditer(clean(text)):
            if len(ids) >= min_ids:
                break
            symbols = word.group().encode().decode("latin-1").translate(self._letters)
            ids += [token.id for token in self._model.tokenize(symbols)]
        return ids


def vocabulary(merges: list[Pair]) -> dict[str, int]:
    """Assign ids to symbols, in this order: bytes, bytes at a word's end, merged symbols, start
    mark, end mark.
    """
    letters = list(byte_letters().values())
    symbols = letters + [letter + END_OF_WORD for letter in letters]
    symbols += ["".join(pair) for pair in merges] + [START, END]
    return {symbol: number for number, symbol in enumerate(symbols)}


def read_merges() -> list[Pair]:
    """Read the pairs of symbols to merge, in order of rank (first merged first)."""
    pairs: list[Pair] = []
    with gzip.open(VOCABULARY, "rt", encoding="utf-8") as file:
        for line in islice(file, 1, 1 + MERGES):  # the first line is a title
            first, second = line.split()
            pairs.append((first, second))
    return pairs


def clean(text: str) -> str:
    """Repair wrongly decoded characters and HTML entities, reduce white space to single spaces, and
    convert to lower case.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_letters() -> dict[int, str]:
    """Return byte -> printable character, in the order of the vocabulary's first 256 ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _load() -> Tokenizer:
    return Tokenizer(read_merges())
