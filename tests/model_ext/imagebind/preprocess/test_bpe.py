import random
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from model_ext.imagebind.preprocess import bpe
from model_ext.imagebind.preprocess.bpe import END_OF_WORD, Pair, Tokenizer, clean, merge


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


def merge_by_passes(symbols: list[str], ranks: dict[Pair, int]) -> list[str]:
    """The obvious way: find the best pair, join it everywhere, start again."""
    while True:
        pairs = [pair for pair in pairwise(symbols) if pair in ranks]
        if not pairs:
            return symbols
        best = min(pairs, key=ranks.__getitem__)
        joined: list[str] = []
        for symbol in symbols:
            if joined and (joined[-1], symbol) == best:
                joined[-1] += symbol + "\x00"  # a mark, so that it does not join again in this pass
            else:
                joined.append(symbol)
        symbols = [symbol.replace("\x00", "") for symbol in joined]


def test_heap_equals_passes_on_random_words(tokenizer: Tokenizer) -> None:
    dice = random.Random(0)
    for _ in range(2000):
        letters = dice.choice(("ab", "aeinrst", "abcdefghijklmnopqrstuvwxyz", "!?.,-"))
        word = "".join(dice.choices(letters, k=dice.randint(1, 40)))
        symbols = [*word[:-1], word[-1] + END_OF_WORD]
        assert merge(symbols, tokenizer.ranks) == merge_by_passes(symbols, tokenizer.ranks), word


def test_merges_go_by_rank_then_from_the_left() -> None:
    ranks = {("a", "a"): 1, ("a", "b"): 0, ("aa", "a"): 2}
    assert merge(list("aaaa"), ranks) == ["aa", "aa"]
    assert merge(list("aaa"), ranks) == ["aaa"]
    assert merge(list("aab"), ranks) == ["a", "ab"]
    assert merge(["a"], ranks) == ["a"]


def test_a_word_as_long_as_the_limit_does_not_take_minutes(tokenizer: Tokenizer) -> None:
    word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=65_536))
    begin = time.process_time()
    assert len(tokenizer.encode(word, most=77)) > 10_000
    assert time.process_time() - begin < 5


def test_vocabulary(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.ids) == 49408
    assert (tokenizer.start, tokenizer.end) == (49406, 49407)
    assert tokenizer.ids["!"] == 0
    assert tokenizer.ids["!" + END_OF_WORD] == 256
    assert len(set(bpe.byte_letters().values())) == 256


def test_typed_marks_are_text(tokenizer: Tokenizer) -> None:
    """Somebody who types an end mark must not end the text for the encoder."""
    text = "a <|endoftext|> b <|startoftext|>"
    assert not {tokenizer.start, tokenizer.end} & set(tokenizer.encode(text, most=77))
    marked = tokenizer.encode(text, most=77, marks=True)
    assert marked.count(tokenizer.end) == marked.count(tokenizer.start) == 1


def test_cleaning() -> None:
    assert clean("  It&amp;amp;s\n\tRAINING  ") == "it&s raining"
    assert clean("cafÃ©") == "café"


def test_pieces_split_clitics_digits_and_signs(tokenizer: Tokenizer) -> None:
    pieces = bpe.PLAIN.findall("it's 42 kites!? we'll")
    assert pieces == ["it", "'s", "4", "2", "kites", "!?", "we", "'ll"]
    assert tokenizer.encode("", most=77) == []


def test_missing_vocabulary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bpe._load.cache_clear()
    monkeypatch.setattr(bpe, "VOCABULARY", "nothing.txt.gz")
    with pytest.raises(FileNotFoundError, match=r"open_clip_torch has no file nothing\.txt\.gz"):
        Tokenizer.load()
    monkeypatch.setattr(bpe, "PACKAGE", "no-such-package-anywhere")
    with pytest.raises(FileNotFoundError, match="no-such-package-anywhere"):
        Tokenizer.load()


def test_the_package_of_the_vocabulary_is_not_imported() -> None:
    program = (
        "import sys; from model_ext.imagebind.preprocess.bpe import Tokenizer; Tokenizer.load();"
        "assert not {'open_clip', 'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
